"""The check before merging, in an experiment: its record, and what becomes of what it names."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from stockpot.errors import StageFailed
from stockpot.experiment.jobs.prechecking import (
    PrecheckJob,
    check_ingredients,
    largest_fall,
    require_enough,
)
from stockpot.experiment.plan import Plan
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.manifests import models_of, read_manifest, write_manifest
from stockpot.storage.models import Model
from stockpot.storage.store import Store

MakePlan = Callable[..., Plan]


def _with_odd(plan: Plan) -> list[Model]:
    """Return the ingredients, the second one with its weights negated."""
    models = models_of(read_manifest(plan.project.root, "sweep"))
    state = load_tensors(plan.project.root / models[1].path)
    negated = {name: -tensor for name, tensor in state.items()}
    odd = Store(plan.project.root).save("ingredient", "odd", models[1].name, negated, {})
    return [models[0], odd.scored(models[1].scores), *models[2:]]


def _job(plan: Plan, **changed: object) -> PrecheckJob:
    return replace(plan.precheck_job(_with_odd(plan)), **changed)


def test_good_ingredients_pass_and_the_record_is_plain(plan: Plan) -> None:
    precheck = read_manifest(plan.project.root, "sweep")["precheck"]

    assert precheck["failed"] == precheck["excluded"] == []
    assert all(check["passed"] for check in precheck["checks"])
    assert precheck["certificate"]["num_examples"] == 400
    assert len(plan.ingredients()) == 4


def test_the_record_is_the_same_each_time(plan: Plan) -> None:
    recorded = read_manifest(plan.project.root, "sweep")["precheck"]

    again = check_ingredients(plan.precheck_job(plan.ingredients()), "cpu")

    assert json.dumps(again, sort_keys=True) == json.dumps(recorded, sort_keys=True)


def test_an_ingredient_that_does_not_belong_goes_into_no_soup_but_is_still_judged(
    plan: Plan,
) -> None:
    ingredients = _with_odd(plan)
    root = plan.project.root

    result = check_ingredients(plan.precheck_job(ingredients), "cpu")
    listed = [model.to_json() for model in ingredients]
    changed = {"ingredients": listed, "precheck": require_enough(_job(plan), result, 2)}
    write_manifest(root, "sweep", read_manifest(root, "sweep") | changed)

    assert [entry["name"] for entry in result["excluded"]] == ["ingredient-01"]
    assert "another start, or far from it" in result["excluded"][0]["reason"]
    others = ["ingredient-00", "ingredient-02", "ingredient-03"]
    assert [model.name for model in plan.ingredients()] == others
    for job in (*plan.soup_jobs(), *plan.tuning_jobs()):
        assert {model.name for model in job.ingredients} == {*others}
    assert "ingredient-01" in {model.name for model in plan.models()}


def test_a_warning_names_and_excludes_nobody(plan: Plan) -> None:
    job = _job(plan, on_fail="warn")

    result = require_enough(job, check_ingredients(job, "cpu"), 4)

    assert [entry["name"] for entry in result["failed"]] == ["ingredient-01"]
    assert result["excluded"] == []


def test_a_stop_fails_the_stage_with_the_reason(plan: Plan) -> None:
    job = _job(plan, on_fail="stop")
    result = check_ingredients(job, "cpu")

    with pytest.raises(StageFailed, match=r"on_fail is stop(.|\n)*ingredient-01: its "):
        require_enough(job, result, 2)


def test_too_few_that_can_be_merged_fail_the_stage(plan: Plan) -> None:
    job = _job(plan)
    result = check_ingredients(job, "cpu")

    with pytest.raises(StageFailed, match=r"3 of 4 ingredients can be merged(.|\n)*ingredient-01"):
        require_enough(job, result, 4)


def test_a_single_ingredient_passes(plan: Plan) -> None:
    job = plan.precheck_job(plan.ingredients()[:1])

    result = require_enough(job, check_ingredients(job, "cpu"), 1)

    assert result["failed"] == []


@pytest.mark.parametrize(
    ("values", "task", "limit"),
    [
        ([1.0] * 100, "classification", 0.05),
        ([1.0] * 10, "classification", 0.3),  # three examples of ten
        ([-8.0] * 100, "regression", 0.4),
    ],
)
def test_the_limit_is_no_matter_of_few_examples_or_of_units(
    values: list[float], task: str, limit: float
) -> None:
    assert largest_fall(0.05, torch.tensor(values), task) == pytest.approx(limit)
