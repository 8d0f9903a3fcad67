"""Experiments on texts with tiny transformers: what takes gradients of single examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_text_workloads import bert_spec, llama_spec

from stockpot.config import load_experiment
from stockpot.errors import InputError
from stockpot.experiment.jobs.diagnosing import diagnose_models
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.prechecking import check_ingredients
from stockpot.experiment.plan import Plan
from stockpot.experiment.state import inputs_key
from stockpot.experiment.task_checks import check_tasks
from stockpot.storage.manifests import models_of, read_manifest, write_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project
from stockpot.workloads.spec import WorkloadSpec

MakeSpec = Callable[[Path], WorkloadSpec]


def make_plan(root: Path, spec: WorkloadSpec, **changes: Any) -> Plan:
    params = {
        "workload": {
            "name": spec.name,
            "val_shifts": [],
            "test_shifts": [],
            "options": dict(spec.options),
        },
        "base": {"epochs": 1},
        "sweep": {
            "size": 2,
            "min_ingredients": 2,
            "space": {
                "learning_rate": {"log_uniform": [1.0e-3, 1.0e-2]},
                "epochs": 1,
                "label_smoothing": 0,
                "mixup": 0,
                "augmentation": 0,
            },
            "precheck": {"on_fail": "warn"},
        },
        "soups": [{"name": "fisher", "select": "uniform", "method": "fisher"}],
        "diagnose": ["regime"],
    } | changes
    file = root / "params.yaml"
    file.write_text(yaml.safe_dump(params))
    return Plan(Project(root, file), load_experiment(file, []))


def finish_diagnose(plan: Plan) -> dict[str, Any]:
    """Do the stages up to the diagnostics, in this process; return the findings."""

    def record(stage: str, **made: Any) -> None:
        content = {"inputs": inputs_key(plan, stage), "files": {}, **made}
        write_manifest(plan.project.root, stage, content)

    def made(jobs: Any) -> list[Model]:
        models = [make_model(job, "cpu") for job in jobs]
        assert all(isinstance(model, Model) for model in models), models
        return [model for model in models if isinstance(model, Model)]

    (base,) = made([plan.base_job()])
    record("base", base=base.to_json())
    ingredients = made(plan.ingredient_jobs())
    precheck = check_ingredients(plan.precheck_job(ingredients), "cpu")
    record("sweep", ingredients=[m.to_json() for m in ingredients], failed=[], precheck=precheck)
    record("soups", soups=[soup.to_json() for soup in made(plan.soup_jobs())])
    record("tune", tuned=[])
    return {job.name: diagnose_models(job, "cpu") for job in plan.diagnostic_jobs()}


@pytest.mark.parametrize("make", [bert_spec, llama_spec])
def test_transformers_can_be_merged_by_fisher_and_have_a_tangent_kernel(
    make: MakeSpec, tmp_path: Path
) -> None:
    plan = make_plan(tmp_path, make(tmp_path))

    finding = finish_diagnose(plan)["regime"]

    (soup,) = models_of(read_manifest(tmp_path, "soups"))
    assert all(math.isfinite(score) for score in soup.scores.values())
    assert {row["name"] for row in finding.data["gaps"]} == {"average of all", "fisher"}
    assert 0 < finding.metrics["ntk_distance"] < 1


def test_a_language_model_is_refused_what_is_for_other_tasks_before_any_work(
    tmp_path: Path,
) -> None:
    spec = llama_spec(tmp_path)
    fisher = {"name": "exact", "select": "uniform", "method": "fisher"}
    exact = make_plan(tmp_path, spec, soups=[{**fisher, "options": {"estimator": "exact"}}])
    learned = make_plan(tmp_path, spec, tune=[{"name": "learned", "search": "gradient"}])

    with pytest.raises(InputError, match="soups: 'exact': fisher: estimator must be sampled or"):
        check_tasks(exact.experiment, exact.workload.build())
    with pytest.raises(InputError, match="tune: 'learned': gradient must have a workload of"):
        check_tasks(learned.experiment, learned.workload.build())
