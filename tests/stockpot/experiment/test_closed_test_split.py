"""No choice can reach test: a workload whose test split must not be opened goes to its last one."""

from __future__ import annotations

from typing import Any

import pytest

from stockpot.config import load_experiment
from stockpot.config.diagnose import DIAGNOSTIC_NAMES
from stockpot.experiment.jobs.diagnosing import diagnose_models
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.judging import predict_model
from stockpot.experiment.jobs.prechecking import check_ingredients
from stockpot.experiment.plan import Plan
from stockpot.experiment.state import inputs_key
from stockpot.storage.manifests import write_manifest
from stockpot.storage.project import Project

PARAMS = """
workload:
  name: toy_workload:Toy
  val_shifts: [far]
  test_shifts: [further]
  options: {closed: test, sizes: "40,40"}
base: {epochs: 2, batch_size: 4}
sweep:
  size: 4
  min_ingredients: 2
  space: {learning_rate: {log_uniform: [1.0e-2, 1.0e-1]}, epochs: 2, batch_size: 4}
soups:
  - {name: uniform, select: uniform}
  - {name: greedy, select: greedy}
  - {name: top 2, select: top_k, k: 2}
  - {name: fisher, select: uniform, method: fisher}
tune:
  - {name: tuned, trials: 8}
  - {name: pareto, objectives: [val, val_shift], sampler: nsga2, trials: 8}
  - {name: learned, search: gradient}
  - {name: entropy, search: entropy}
"""


def _record(plan: Plan, stage: str, **made: Any) -> None:
    write_manifest(
        plan.project.root, stage, {"inputs": inputs_key(plan, stage), "files": {}, **made}
    )


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Every stage up to the evaluation, done with the test split closed."""
    root = tmp_path_factory.mktemp("closed")
    (root / "params.yaml").write_text(PARAMS)
    plan = Plan(Project(root, root / "params.yaml"), load_experiment(root / "params.yaml", []))
    _record(plan, "base", base=make_model(plan.base_job(), "cpu").to_json())
    ingredients = [make_model(job, "cpu") for job in plan.ingredient_jobs()]
    precheck = check_ingredients(plan.precheck_job(ingredients), "cpu")
    listed = [made.to_json() for made in ingredients]
    _record(plan, "sweep", ingredients=listed, failed=[], precheck=precheck)
    _record(plan, "soups", soups=[make_model(job, "cpu").to_json() for job in plan.soup_jobs()])
    _record(plan, "tune", tuned=[make_model(job, "cpu").to_json() for job in plan.tuning_jobs()])
    return plan


@pytest.mark.parametrize("name", DIAGNOSTIC_NAMES)
def test_every_stage_and_diagnostic_before_the_evaluation_works_without_test(
    plan: Plan, name: str
) -> None:
    (job,) = [job for job in plan.diagnostic_jobs() if job.name == name]

    finding = diagnose_models(job, "cpu")

    assert finding.sentence
    assert diagnose_models(job, "cpu") == finding  # from where it was kept


def test_the_evaluation_opens_test(plan: Plan) -> None:
    with pytest.raises(AssertionError, match="test was opened"):
        predict_model(plan.evaluation().prediction_jobs()[0], "cpu")
