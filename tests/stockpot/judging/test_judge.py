"""All metrics of a verdict, by hand, from predictions that are written here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from written_predictions import (
    RIGHT,
    centres,
    metrics_of,
    outputs_of,
    targets_of,
)

from stockpot.experiment.jobs.judging import judge_models
from stockpot.judging.job import JudgingJob
from stockpot.judging.temperature import fit_temperature
from stockpot.scoring.metrics import TASK_METRICS
from stockpot.scoring.metrics.calibration import reliability
from stockpot.scoring.metrics.classification import ece, nll_per_example
from stockpot.statistics.intervals import Intervals


@pytest.fixture
def evaluation(job: JudgingJob) -> dict[str, Any]:
    return judge_models(job, "cpu")


def test_the_verdict_says_what_was_judged(evaluation: dict[str, Any]) -> None:
    parts = {"models", "comparisons", "effective_robustness", "reliability", "conformal"}
    rest = {name: value for name, value in evaluation.items() if name not in parts}

    directions = {m.name: m.higher_is_better for m in TASK_METRICS["classification"]}
    fractions = {m.name: m.name not in ("nll", "brier") for m in TASK_METRICS["classification"]}
    assert rest == {
        "metric": "accuracy",
        "higher_is_better": directions | {"first output": True},
        "is_fraction": fractions | {"first output": False},  # the margin of predictions is above 1
        "best_ingredient": "ingredient-01",
        "best_soup": "soup",
        "confidence": 0.9,
        "bootstrap": 200,
        "num_val": 6,
        "num_test": 4,
        "val_shifts": ["near"],
        "test_shifts": ["a", "far away"],
        "greedy": [],
        "random_soups": {"draws": 0, "seed": 0, "rows": []},
        "wise_ft": [],
        "notes": ["no example of val is of class 1: ap_macro and auroc leave them out"],
    }


def test_the_accuracies_of_a_soup_by_hand(evaluation: dict[str, Any]) -> None:
    assert centres(metrics_of(evaluation, "soup")) == pytest.approx(
        {
            "val/accuracy": 5 / 6,
            "test/accuracy": 3 / 4,
            "val_shift/near/accuracy": 3 / 6,
            "val_shift/mean/accuracy": 3 / 6,
            "shift/a/accuracy": 2 / 4,
            "shift/far away/accuracy": 3 / 4,
            "shift/mean/accuracy": 5 / 8,
            "difference/test/accuracy": 3 / 4 - 2 / 4,
            "difference/shift/mean/accuracy": 5 / 8 - 3 / 8,
        }
    )


def test_all_metrics_are_there_for_every_set_and_the_mean_of_shifts(
    evaluation: dict[str, Any],
) -> None:
    names = {*(m.name for m in TASK_METRICS["classification"]), "first output"}
    names |= {"nll_scaled", "brier_scaled", "ece_scaled"}
    places = ["val", "val_shift/near", "val_shift/mean", "test"]
    places += ["shift/a", "shift/far away", "shift/mean"]

    for model in evaluation["models"]:
        metrics = model["metrics"]
        for place in places:
            of_place = {n.removeprefix(f"{place}/") for n in metrics if n.startswith(f"{place}/")}
            # Of the 6 val examples all are of one class, which has no ROC curve.
            expected = names - {"auroc"} if place.startswith("val") else names
            assert of_place >= expected, (model["name"], place)
        assert metrics["shift/mean/ece"] == pytest.approx(
            (metrics["shift/a/ece"] + metrics["shift/far away/ece"]) / 2
        )


def test_temperatures_are_fitted_on_val_and_applied_everywhere(
    evaluation: dict[str, Any], job: JudgingJob
) -> None:
    targets, metrics = targets_of(job.workload), metrics_of(evaluation, "soup")
    outputs = {n: outputs_of(targets[n], right, 1.0) for n, right in RIGHT["soup"].items()}

    temperature = fit_temperature(outputs["val"], targets["val"])

    scaled = outputs["test"] / temperature
    assert metrics["temperature"] == pytest.approx(temperature)
    assert metrics["test/nll_scaled"] == pytest.approx(
        nll_per_example(scaled, targets["test"]).mean().item()
    )
    assert metrics["test/ece_scaled"] == pytest.approx(ece(scaled, targets["test"]))
    assert metrics["val/nll_scaled"] <= metrics["val/nll"]


def test_the_best_ingredient_is_not_compared_with_itself(evaluation: dict[str, Any]) -> None:
    best = metrics_of(evaluation, "ingredient-01")
    other = metrics_of(evaluation, "ingredient-00")

    assert not [name for name in best if name.startswith("difference/")]
    assert other["difference/test/accuracy"] == 0
    assert other["difference/shift/mean/accuracy"] == pytest.approx(1 / 8 - 3 / 8)


@pytest.mark.parametrize("name", ["logit ensemble", "probability ensemble", "median ensemble"])
def test_ensembles_combine_the_ingredients_outputs(evaluation: dict[str, Any], name: str) -> None:
    # Where the two disagree, the more certain one, ingredient-00, decides.
    ensemble = centres(metrics_of(evaluation, name))
    decides = centres(metrics_of(evaluation, "ingredient-00"))

    assert ensemble == decides


def test_the_stacked_ensemble_fits_val_best(evaluation: dict[str, Any]) -> None:
    losses = {model["name"]: model["metrics"]["val/nll"] for model in evaluation["models"]}

    members = ("ingredient-00", "ingredient-01", "probability ensemble")
    assert losses["stacked ensemble"] <= min(losses[name] for name in members) + 1e-4


def test_intervals_hold_their_metric(evaluation: dict[str, Any]) -> None:
    with_interval = {"accuracy", "nll", "brier"}

    for model in evaluation["models"]:
        metrics = model["metrics"]
        lows = [name.removesuffix("_low") for name in metrics if name.endswith("_low")]
        assert {f"test/{name}" for name in with_interval} <= set(lows)
        assert {n for n in centres(metrics) if n.endswith("/accuracy")} <= set(lows)
        for name in lows:
            assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"], name


def test_intervals_are_those_of_the_examples(evaluation: dict[str, Any]) -> None:
    metrics = metrics_of(evaluation, "soup")
    own = np.array(RIGHT["soup"]["test"], dtype=float)
    best = np.array(RIGHT["ingredient-01"]["test"], dtype=float)
    shifts = np.mean([RIGHT["soup"]["test_shift/a"], RIGHT["soup"]["test_shift/far away"]], axis=0)

    intervals = Intervals(200, 0.9, seed=0)

    estimates = {
        "test/accuracy": intervals.estimate(own),
        "shift/mean/accuracy": intervals.estimate(shifts),
        "difference/test/accuracy": intervals.difference(own, best),
    }
    for name, estimate in estimates.items():
        assert metrics[name] == pytest.approx(estimate.mean)
        assert metrics[f"{name}_low"] == pytest.approx(estimate.low)
        assert metrics[f"{name}_high"] == pytest.approx(estimate.high)


def test_models_stand_in_order_with_their_cost(evaluation: dict[str, Any], job: JudgingJob) -> None:
    bytes_each = [model.bytes for model in job.models]
    ensembles = ["logit ensemble", "probability ensemble", "median ensemble", "stacked ensemble"]

    listed = [(model["name"], model["kind"], model["cost"]) for model in evaluation["models"]]

    one = {"num_models": 1, "num_params": 4, "flops": 8}
    two = {"num_models": 2, "num_params": 8, "flops": 16, "bytes": sum(bytes_each[1:3])}
    assert listed == [
        ("base", "base", one | {"bytes": bytes_each[0]}),
        ("ingredient-00", "ingredient", one | {"bytes": bytes_each[1]}),
        ("ingredient-01", "ingredient", one | {"bytes": bytes_each[2]}),
        ("soup", "soup", one | {"bytes": bytes_each[3]}),
        *((name, "ensemble", two) for name in ensembles),
    ]
    assert len({model["key"] for model in evaluation["models"]}) == 8
    assert evaluation["models"][-1]["digest"] == ""
    assert evaluation["models"][0]["digest"] == job.models[0].digest


def test_soups_and_ensembles_are_compared_with_the_best_ingredient(
    evaluation: dict[str, Any],
) -> None:
    rows = evaluation["comparisons"]

    assert {row["reference"] for row in rows} == {"ingredient-01"}
    assert [(row["model"], row["place"]) for row in rows[:2]] == [
        ("soup", "shift"),
        ("soup", "test"),
    ]
    assert len(rows) == 2 * 5
    on_test = rows[1]
    assert (on_test["won"], on_test["lost"], on_test["n"], on_test["p"]) == (1, 0, 4, 1.0)
    assert on_test["difference"] == pytest.approx(1 / 4)


def test_effective_robustness_needs_ingredients_for_its_line(evaluation: dict[str, Any]) -> None:
    assert evaluation["effective_robustness"] == {
        "scale": "probit",
        "num_fitted": 2,
        "rows": [],
        "note": "a line needs 3 ingredients, got 2",
    }


def test_confidence_is_shown_of_the_models_that_one_may_use(
    evaluation: dict[str, Any], job: JudgingJob
) -> None:
    shown = ["ingredient-01", "soup", "logit ensemble"]
    assert list(evaluation["reliability"]) == shown
    for data in evaluation["reliability"].values():
        assert sum(row["count"] for row in data["bins"]) == 4
        assert sum(row["count"] for row in data["scaled"]) == 4
    targets = targets_of(job.workload)["test"]
    outputs = outputs_of(targets, RIGHT["soup"]["test"], 1.0)
    temperature = metrics_of(evaluation, "soup")["temperature"]
    assert evaluation["reliability"]["soup"] == {
        "bins": reliability(outputs, targets),
        "scaled": reliability(outputs / temperature, targets),
    }

    rows = evaluation["conformal"]
    assert [row["model"] for row in rows if "ensemble" not in row["model"]] == [
        "base",
        "ingredient-01",
        "soup",
    ]
    # 6 val examples are too few for 1 miss in 10, so all classes are in every set.
    assert {(row["alpha"], row["coverage"], row["mean_size"]) for row in rows} == {(0.1, 1.0, 2.0)}


def test_the_same_job_gives_the_same_verdict_without_a_pass(
    evaluation: dict[str, Any], job: JudgingJob, passes: list[int]
) -> None:
    assert judge_models(job, "cpu") == evaluation
    assert passes == [1]  # the one example whose operations are counted
