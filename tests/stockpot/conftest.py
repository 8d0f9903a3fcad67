"""A small experiment on the digits, made once by the library's own job functions."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from stockpot.config import load_experiment
from stockpot.experiment.jobs.diagnosing import diagnose_models, write_finding_files
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.judging import judge_models, measure_baseline, predict_model
from stockpot.experiment.jobs.prechecking import check_ingredients
from stockpot.experiment.plan import Plan
from stockpot.experiment.report_files import load_results, write_plot_files, write_report_files
from stockpot.experiment.state import inputs_key
from stockpot.reporting.figures import draw_figures
from stockpot.storage import code_keys
from stockpot.storage.manifests import digests_of, write_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project
from stockpot.storage.store import Store
from stockpot.workloads.protocol import Batch
from stockpot.workloads.spec import WorkloadSpec

PARAMS = """
base: {epochs: 4}
sweep:
  size: 4
  min_ingredients: 2
  space:
    learning_rate: {log_uniform: [1.0e-3, 1.0e-2]}
    epochs: 1
soups:
  - {name: uniform, select: uniform}
  - {name: greedy, select: greedy}
  - {name: top 2, select: top_k, k: 2}
tune:
  - {name: tuned, trials: 8}
  - {name: pareto, objectives: [val, val_shift], sampler: nsga2, trials: 8}
diagnose: []
evaluate: {bootstrap: 200, random_soups: 4, repeats: {m: 2}}
"""

# Modules that worker processes import by name: jobs, and a workload of one's own.
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

MakePlan = Callable[..., Plan]


def _plan(root: Path, *overrides: str) -> Plan:
    params = root / "params.yaml"
    return Plan(Project(root, params), load_experiment(params, overrides))


def _record(plan: Plan, stage: str, **made: Any) -> None:
    manifest = {"inputs": inputs_key(plan, stage), **made}
    write_manifest(plan.project.root, stage, {"files": {}} | manifest)


def _finish(root: Path, params: str) -> Plan:
    """Do all stages but the report, in order and in this process; return the plan."""
    (root / "params.yaml").write_text(params)
    plan = _plan(root)
    _record(plan, "base", base=make_model(plan.base_job(), "cpu").to_json())
    ingredients = [make_model(job, "cpu") for job in plan.ingredient_jobs()]
    listed = [made.to_json() for made in ingredients]
    precheck = check_ingredients(plan.precheck_job(ingredients), "cpu")
    _record(plan, "sweep", ingredients=listed, failed=[], precheck=precheck)
    soups = [make_model(job, "cpu") for job in plan.soup_jobs()]
    _record(plan, "soups", soups=[made.to_json() for made in soups])
    tuned = [make_model(job, "cpu") for job in plan.tuning_jobs()]
    _record(plan, "tune", tuned=[made.to_json() for made in tuned])
    found = {job.name: diagnose_models(job, "cpu") for job in plan.diagnostic_jobs()}
    findings = write_finding_files(plan.project.root, found)
    _record(plan, "diagnose", files=digests_of(plan.project.root, findings))
    for job in plan.evaluation().prediction_jobs():
        predict_model(job, "cpu")
    for baseline in plan.evaluation().baseline_jobs():
        measure_baseline(baseline, "cpu")
    evaluation = judge_models(plan.evaluation().judging_job(), "cpu")
    files = write_plot_files(root, evaluation)
    _record(plan, "evaluate", **evaluation, files=digests_of(root, files))
    return plan


@pytest.fixture(scope="session")
def finished(make_once: Callable[[str, Callable[[Path], None]], Path]) -> Plan:
    """The plan of a finished experiment: look, do not change."""

    def finish(root: Path) -> None:
        plan = _finish(root, PARAMS)
        files = write_report_files(plan, draw_figures(load_results(root)), {})
        _record(plan, "report", files=digests_of(root, files))

    return _plan(make_once("finished-in-process", finish))


@pytest.fixture(scope="session")
def finish_experiment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Plan]:
    """Return what does all stages but the report of an experiment with the given params.yaml."""
    return lambda params: _finish(tmp_path_factory.mktemp("own"), params)


@pytest.fixture
def project_root(finished: Plan, tmp_path: Path) -> Path:
    """A copy of the finished experiment, to be changed."""
    root = tmp_path / "project"
    shutil.copytree(finished.project.root, root)
    return root


@pytest.fixture
def make_plan(project_root: Path) -> MakePlan:
    """Plan the copied experiment, with overrides."""
    return lambda *overrides: _plan(project_root, *overrides)


@pytest.fixture
def plan(make_plan: MakePlan) -> Plan:
    """The plan of the copied experiment."""
    return make_plan()


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return what makes files of modules look edited to content keys; nothing is written."""
    read = code_keys._read

    def edit(*modules: str) -> None:
        files = {code_keys._file_of(module) for module in modules}
        assert None not in files, modules

        def read_edited(name: str, other: Path) -> tuple[str, tuple[str, ...]]:
            digest, imports = read(name, other)
            return "edited" if other in files else digest, imports

        monkeypatch.setattr(code_keys, "_read", read_edited)
        code_keys.code_key.cache_clear()

    yield edit
    monkeypatch.undo()
    # What was read of the sources stays true: reading all of them again takes a second.
    code_keys.code_key.cache_clear()


@pytest.fixture
def make_spec() -> Callable[..., WorkloadSpec]:
    """Return what describes the toy workload, with one val shift and two test shifts."""

    def make(test_shifts: tuple[str, ...] = ("a", "far away"), **options: Any) -> WorkloadSpec:
        return WorkloadSpec(
            "toy_workload:Toy",
            seed=0,
            val_shifts=("near",),
            test_shifts=test_shifts,
            options=tuple(sorted(options.items())),
        )

    return make


@pytest.fixture
def save_model(tmp_path: Path) -> Callable[..., Model]:
    """Return what puts a linear model of the toy workload into a store."""

    def save(
        weight: Tensor, name: str = "ingredient-00", kind: str = "ingredient", val: float = 0.5
    ) -> Model:
        key = name.replace(" ", "-")
        model = Store(tmp_path).save(kind, key, name, {"weight": weight}, {})
        return model.scored({"val/accuracy": val})

    return save


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each forward pass of the toy workload: of how many examples."""
    from toy_workload import Toy

    counted: list[int] = []
    forward = Toy.forward

    def count(workload: Any, model: nn.Module, batch: Batch) -> Tensor:
        counted.append(len(batch[0]))
        return forward(workload, model, batch)

    monkeypatch.setattr(Toy, "forward", count)
    return counted
