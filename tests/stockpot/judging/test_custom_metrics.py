"""Evaluations with metrics of the user's own."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from custom_judging import top_two
from written_predictions import RIGHT, metrics_of

from stockpot.errors import InputError
from stockpot.experiment import opening
from stockpot.experiment.jobs.judging import judge_models
from stockpot.experiment.plan import Plan
from stockpot.experiment.state import stage_modules
from stockpot.judging.job import JudgingJob
from stockpot.scoring.metrics.registry import METRICS


def test_a_function_of_the_users_is_a_metric_with_intervals_on_every_set(job: JudgingJob) -> None:
    evaluation = judge_models(replace(job, metrics=("custom_judging:top_two",)), "cpu")

    metrics = metrics_of(evaluation, "soup")
    for place in ("val", "val_shift/near", "val_shift/mean", "test", "shift/a", "shift/mean"):
        assert metrics[f"{place}/top_two"] == 1.0  # there are two classes
    assert metrics["test/top_two_low"] < 1.0 == metrics["test/top_two_high"]
    assert evaluation["higher_is_better"]["top_two"] is True
    assert evaluation["is_fraction"]["top_two"] is True
    assert evaluation["metric"] == "accuracy"  # what models are compared by


def test_a_metric_of_a_whole_set_has_its_own_name_and_direction(job: JudgingJob) -> None:
    evaluation = judge_models(replace(job, metrics=("custom_judging:largest_output",)), "cpu")

    metrics = metrics_of(evaluation, "ingredient-00")
    assert metrics["test/largest output"] == 3.0
    assert "test/largest output_low" not in metrics
    assert evaluation["higher_is_better"]["largest output"] is False
    assert evaluation["is_fraction"]["largest output"] is False


def test_other_metrics_are_those_of_an_evaluation_without_it(job: JudgingJob) -> None:
    usual = judge_models(job, "cpu")
    more = judge_models(replace(job, metrics=("custom_judging:largest_output",)), "cpu")

    for name in RIGHT:
        kept = {n: v for n, v in metrics_of(more, name).items() if "largest output" not in n}
        assert kept == metrics_of(usual, name)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("custom_judging:accuracy", "there is a metric 'accuracy' already; give yours another"),
        ("custom_judging:one_number", r"one value per example, shape \(6,\), got shape \(\)"),
        ("custom_judging:top_tow", "unknown metric in 'custom_judging': 'top_tow'.*'top_two'"),
        ("no_such_module:metric", "module 'no_such_module' cannot be imported"),
    ],
)
def test_a_metric_that_cannot_be_computed_is_an_input_error(
    job: JudgingJob, metric: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        judge_models(replace(job, metrics=(metric,)), "cpu")


def test_metrics_are_found_by_module_and_name() -> None:
    outputs, targets = torch.tensor([[3.0, 2, 1], [3, 2, 1]]), torch.tensor([1, 2])

    assert METRICS["custom_judging:top_two"](outputs, targets) == 0.5
    assert METRICS.module_of("custom_judging:top_two") == "custom_judging"
    assert top_two(outputs, targets).tolist() == [1.0, 0.0]


def test_the_evaluation_depends_on_the_module_of_a_metric(make_plan: Callable[..., Plan]) -> None:
    plan = make_plan("evaluate.metrics=[custom_judging:top_two]")

    assert plan.evaluation().judging_job().metrics == ("custom_judging:top_two",)
    assert "custom_judging" in stage_modules(plan, "evaluate")
    assert "custom_judging" not in stage_modules(make_plan(), "evaluate")


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("evaluate.metrics=[custom_judging:look]", "function of outputs and targets, got look(con"),
        ("diagnose=[custom_judging:top_two]", "must be a function of context, got top_two(outputs"),
    ],
)
def test_functions_of_other_arguments_are_found_before_any_work(
    make_plan: Callable[..., Plan], setting: str, problem: str
) -> None:
    with pytest.raises(InputError, match=re.escape(problem)):
        make_plan(setting)


def test_a_metric_whose_name_is_taken_is_found_before_any_work(
    project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "export_settings", lambda _project: None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    overrides = ["evaluate.metrics=[custom_judging:accuracy]"]

    with pytest.raises(InputError, match="there is a metric 'accuracy' already"):
        opening.make_plan(str(project_root / "params.yaml"), overrides)


def test_a_metric_that_does_not_exist_is_found_before_any_work(
    make_plan: Callable[..., Plan],
) -> None:
    with pytest.raises(InputError, match=r"evaluate\.metrics.*unknown metric in 'custom_judging'"):
        make_plan("evaluate.metrics=[custom_judging:top_tow]")
