"""The work of an experiment without the pipeline: jobs in worker processes, nothing else.

No Prefect, no MLflow, no DVC: the work that any tool would have to do. Other benchmarks use it as
their reference.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

from stockpot.config import load_experiment
from stockpot.experiment.jobs.diagnosing import diagnose_models, write_finding_files
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.judging import judge_models, measure_baseline, predict_model
from stockpot.experiment.jobs.prechecking import check_ingredients
from stockpot.experiment.phases import Phases
from stockpot.experiment.plan import Plan
from stockpot.experiment.report_files import load_results, write_plot_files, write_report_files
from stockpot.experiment.state import inputs_key
from stockpot.reporting.figures import draw_figures
from stockpot.storage.manifests import digests_of, write_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project
from stockpot.workers import WorkerPool


def plan_in(folder: Path, params: Path, overrides: Sequence[str]) -> Plan:
    """Plan an experiment in an empty folder."""
    return Plan(Project(folder, params), load_experiment(params, overrides))


def warm_pool(num_workers: int) -> WorkerPool:
    """Start workers and wait until each has imported torch and the workload's data."""
    pool = WorkerPool(["cpu"] * num_workers, threads=1)
    _side_by_side(pool, _import_all, [0.5] * num_workers)
    return pool


class ThisProcess:
    """Runs jobs where it is called, in the place of a pool of workers."""

    devices = ("cpu",)

    def run(self, work: Callable[[Any, str], Any], job: Any) -> Any:
        """Do the work of a job."""
        return work(job, *self.devices)


Pool: TypeAlias = WorkerPool | ThisProcess


def run_library(plan: Plan, pool: Pool, last: str = "report") -> dict[str, float]:
    """Run all stages up to one; return the seconds per stage."""
    root = plan.project.root
    stages: dict[str, Callable[[], dict[str, Any]]] = {
        "base": lambda: {"base": pool.run(make_model, plan.base_job()).to_json()},
        "sweep": lambda: _sweep(plan, pool),
        "soups": lambda: _models("soups", pool, make_model, plan.soup_jobs()),
        "tune": lambda: _models("tuned", pool, make_model, plan.tuning_jobs()),
        "diagnose": lambda: _diagnose(plan, pool),
        "evaluate": lambda: _evaluate(plan, pool),
        "report": lambda: _report(plan),
    }
    seconds: dict[str, float] = {}
    for stage, work in stages.items():
        start = time.perf_counter()
        made = work()
        seconds[stage] = time.perf_counter() - start
        if stage != "report":
            write_manifest(root, stage, {"inputs": inputs_key(plan, stage), **made})
        if stage == last:
            break
    return seconds


def _sweep(plan: Plan, pool: Pool) -> dict[str, Any]:
    phases = Phases(plan)
    while first := phases.next_jobs():
        models = _side_by_side(pool, make_model, first)
        phases = phases.after(models, pool.run(make_model, phases.average_job(models)))
    jobs = [*phases.from_average(plan.ingredient_jobs()), *plan.rounds_jobs()]
    made = _models("ingredients", pool, make_model, jobs)
    ingredients = [Model.from_json(entry) for entry in made["ingredients"]]
    precheck = pool.run(check_ingredients, plan.precheck_job(ingredients))
    return {"failed": [], **made, "precheck": precheck, **phases.recorded()}


def train_sweep(plan: Plan, pool: WorkerPool) -> float:
    """Run base and sweep; return the seconds of the sweep."""
    root = plan.project.root
    base = pool.run(make_model, plan.base_job())
    assert isinstance(base, Model)
    write_manifest(root, "base", {"inputs": inputs_key(plan, "base"), "base": base.to_json()})
    start = time.perf_counter()
    _side_by_side(pool, make_model, plan.ingredient_jobs())
    return time.perf_counter() - start


def _diagnose(plan: Plan, pool: Pool) -> dict[str, Any]:
    jobs = plan.diagnostic_jobs()
    found = _side_by_side(pool, diagnose_models, jobs)
    named = dict(zip([job.name for job in jobs], found, strict=True))
    files = write_finding_files(plan.project.root, named)
    return {"files": digests_of(plan.project.root, files)}


def _report(plan: Plan) -> dict[str, Any]:
    write_report_files(plan, draw_figures(load_results(plan.project.root)), {})
    return {}


def _evaluate(plan: Plan, pool: Pool) -> dict[str, Any]:
    _side_by_side(pool, predict_model, plan.evaluation().prediction_jobs())
    _side_by_side(pool, measure_baseline, plan.evaluation().baseline_jobs())
    evaluation = pool.run(judge_models, plan.evaluation().judging_job())
    write_plot_files(plan.project.root, evaluation)
    return evaluation


def _models(name: str, pool: Pool, work: Any, jobs: Sequence[Any]) -> dict[str, Any]:
    return {name: [model.to_json() for model in _side_by_side(pool, work, jobs)]}


def _side_by_side(pool: Pool, work: Any, jobs: Sequence[Any]) -> list[Any]:
    with ThreadPoolExecutor(len(pool.devices)) as threads:
        return list(threads.map(lambda job: pool.run(work, job), jobs))


def _import_all(seconds: float, _device: str) -> None:
    """Import what the jobs need, and keep the worker busy so that every worker gets one call."""
    for module in ("sklearn.datasets", "stockpot.judging.judge", "stockpot.soups.tuning.study"):
        importlib.import_module(module)
    time.sleep(seconds)
