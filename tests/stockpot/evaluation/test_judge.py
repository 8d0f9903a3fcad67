"""All metrics of a verdict, by hand, from predictions that are written here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stockpot.checkpoints import save_checkpoint
from stockpot.evaluation.judging_jobs import JudgingJob, judge_models
from stockpot.evaluation.predictions import predictions_path
from stockpot.evaluation.statistics import Bootstrap
from stockpot.models import Model
from stockpot.workloads.spec import WorkloadSpec

# Of each of the 6 val and 4 test examples: is the model right? 1 yes, 0 no.
RIGHT = {
    "base": {
        "val": [1, 0, 0, 0, 0, 0],
        "test": [1, 0, 0, 0],
        "val_shift/near": [0, 0, 0, 0, 0, 0],
        "test_shift/a": [0, 0, 0, 1],
        "test_shift/far away": [0, 0, 0, 0],
    },
    "ingredient-00": {
        "val": [1, 1, 1, 0, 0, 0],
        "test": [1, 1, 0, 0],
        "val_shift/near": [1, 0, 0, 0, 0, 0],
        "test_shift/a": [1, 0, 0, 0],
        "test_shift/far away": [0, 0, 0, 0],
    },
    "ingredient-01": {
        "val": [1, 1, 1, 1, 0, 0],
        "test": [1, 0, 1, 0],
        "val_shift/near": [1, 1, 0, 0, 0, 0],
        "test_shift/a": [0, 1, 0, 0],
        "test_shift/far away": [0, 1, 1, 0],
    },
    "soup": {
        "val": [1, 1, 1, 1, 1, 0],
        "test": [1, 1, 1, 0],
        "val_shift/near": [1, 1, 1, 0, 0, 0],
        "test_shift/a": [1, 1, 0, 0],
        "test_shift/far away": [0, 1, 1, 1],
    },
}

KINDS = {"base": "base", "ingredient-00": "ingredient", "ingredient-01": "ingredient"}


def _outputs(targets: Tensor, right: Sequence[int], margin: float) -> Tensor:
    """Put a margin between the two classes, on the target's side where the model is right."""
    sides = torch.where(torch.tensor(right) == 1, targets, 1 - targets)
    return margin * torch.nn.functional.one_hot(sides, 2).float()


def _targets(spec: WorkloadSpec) -> dict[str, Tensor]:
    workload = spec.build()
    splits = {name: workload.dataset(name) for name in ("val", "test")}
    shifts = {f"{s.split}_shift/{n}": s.dataset() for n, s in workload.shifts().items()}
    return {name: dataset.tensors[1] for name, dataset in (splits | shifts).items()}


@pytest.fixture
def job(
    tmp_path: Path, make_spec: Callable[..., WorkloadSpec], save_model: Callable[..., Model]
) -> JudgingJob:
    """Four models with written predictions; ingredient-00 is more certain than ingredient-01."""
    spec = make_spec()
    targets = _targets(spec)
    models = []
    for number, (name, right) in enumerate(RIGHT.items()):
        weight = torch.full((2, 2), float(number))
        val = sum(right["val"]) / 6
        model = save_model(weight, name, KINDS.get(name, "soup"), val=val)
        margin = 3.0 if name == "ingredient-00" else 1.0
        outputs = {n: _outputs(targets[n], right[n], margin) for n in right}
        save_checkpoint(predictions_path(tmp_path, spec, model.digest), outputs, {})
        models.append(model)
    return JudgingJob(tmp_path, spec, tuple(models), bootstrap=200, confidence=0.9)


@pytest.fixture
def evaluation(job: JudgingJob) -> dict[str, Any]:
    return judge_models(job, "cpu")


def _metrics(evaluation: dict[str, Any], name: str) -> dict[str, float]:
    [metrics] = [model["metrics"] for model in evaluation["models"] if model["name"] == name]
    return dict(metrics)


def _centres(metrics: dict[str, float]) -> dict[str, float]:
    return {n: v for n, v in metrics.items() if not n.endswith(("_low", "_high"))}


def test_the_verdict_says_what_was_judged(evaluation: dict[str, Any]) -> None:
    rest = {name: value for name, value in evaluation.items() if name != "models"}

    assert rest == {
        "metric": "accuracy",
        "best_ingredient": "ingredient-01",
        "confidence": 0.9,
        "bootstrap": 200,
        "num_val": 6,
        "num_test": 4,
        "val_shifts": ["near"],
        "test_shifts": ["a", "far away"],
    }


def test_the_metrics_of_a_soup_by_hand(evaluation: dict[str, Any]) -> None:
    assert _centres(_metrics(evaluation, "soup")) == pytest.approx(
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


def test_the_best_ingredient_is_not_compared_with_itself(evaluation: dict[str, Any]) -> None:
    best = _metrics(evaluation, "ingredient-01")
    other = _metrics(evaluation, "ingredient-00")

    assert not [name for name in best if name.startswith("difference/")]
    assert other["difference/test/accuracy"] == 0
    assert other["difference/shift/mean/accuracy"] == pytest.approx(1 / 8 - 3 / 8)


def test_the_ensemble_averages_the_ingredients_outputs(evaluation: dict[str, Any]) -> None:
    # Where the two disagree, the more certain one, ingredient-00, decides.
    ensemble = _centres(_metrics(evaluation, "logit ensemble"))
    decides = _centres(_metrics(evaluation, "ingredient-00"))

    assert ensemble == decides


def test_the_ensembles_output_is_the_mean_of_outputs(
    tmp_path: Path, make_spec: Callable[..., WorkloadSpec], save_model: Callable[..., Model]
) -> None:
    spec = make_spec(metric="first output")
    models = []
    for name, output in (("ingredient-00", 1.0), ("ingredient-01", 4.0), ("ingredient-02", -2.0)):
        model = save_model(torch.full((2, 2), output), name).scored({"val/first output": output})
        outputs = {n: torch.full((len(t), 2), output) for n, t in _targets(spec).items()}
        save_checkpoint(predictions_path(tmp_path, spec, model.digest), outputs, {})
        models.append(model)

    evaluation = judge_models(JudgingJob(tmp_path, spec, tuple(models), 100, 0.9), "cpu")

    assert evaluation["best_ingredient"] == "ingredient-01"
    assert _metrics(evaluation, "logit ensemble")["test/first output"] == 1.0
    assert _metrics(evaluation, "ingredient-02")["difference/test/first output"] == -6.0


def test_every_metric_has_an_interval_around_it(evaluation: dict[str, Any]) -> None:
    for model in evaluation["models"]:
        metrics = model["metrics"]
        for name, value in _centres(metrics).items():
            assert metrics[f"{name}_low"] <= value <= metrics[f"{name}_high"]


def test_intervals_are_those_of_one_bootstrap_a_set_of_examples(
    evaluation: dict[str, Any],
) -> None:
    metrics = _metrics(evaluation, "soup")
    own = np.array(RIGHT["soup"]["test"], dtype=float)
    best = np.array(RIGHT["ingredient-01"]["test"], dtype=float)
    shifts = np.mean([RIGHT["soup"]["test_shift/a"], RIGHT["soup"]["test_shift/far away"]], axis=0)

    bootstrap = Bootstrap(4, 200, 0.9, seed=0)

    estimates = {
        "test/accuracy": bootstrap.estimate(own),
        "shift/mean/accuracy": bootstrap.estimate(shifts),
        "difference/test/accuracy": bootstrap.difference(own, best),
    }
    for name, estimate in estimates.items():
        assert metrics[name] == pytest.approx(estimate.mean)
        assert metrics[f"{name}_low"] == pytest.approx(estimate.low)
        assert metrics[f"{name}_high"] == pytest.approx(estimate.high)


def test_models_stand_in_order_with_their_cost(evaluation: dict[str, Any], job: JudgingJob) -> None:
    bytes_each = [model.bytes for model in job.models]

    listed = [(model["name"], model["kind"], model["cost"]) for model in evaluation["models"]]

    one = {"num_models": 1, "num_params": 4}
    assert listed == [
        ("base", "base", one | {"bytes": bytes_each[0]}),
        ("ingredient-00", "ingredient", one | {"bytes": bytes_each[1]}),
        ("ingredient-01", "ingredient", one | {"bytes": bytes_each[2]}),
        ("soup", "soup", one | {"bytes": bytes_each[3]}),
        (
            "logit ensemble",
            "ensemble",
            {"num_models": 2, "num_params": 8, "bytes": bytes_each[1] + bytes_each[2]},
        ),
    ]
    assert evaluation["models"][-1]["digest"] == ""
    assert evaluation["models"][0]["digest"] == job.models[0].digest


def test_the_same_job_gives_the_same_verdict(evaluation: dict[str, Any], job: JudgingJob) -> None:
    assert judge_models(job, "cpu") == evaluation


def test_without_shifts_there_are_no_shift_metrics(
    tmp_path: Path, save_model: Callable[..., Model]
) -> None:
    spec = WorkloadSpec("toy_workload:Toy", seed=0)
    model = save_model(torch.eye(2))
    outputs = {n: _outputs(t, [1] * len(t), 1.0) for n, t in _targets(spec).items()}
    save_checkpoint(predictions_path(tmp_path, spec, model.digest), outputs, {})

    evaluation = judge_models(JudgingJob(tmp_path, spec, (model,), 100, 0.95), "cpu")

    assert _centres(_metrics(evaluation, "ingredient-00")) == {
        "val/accuracy": 1.0,
        "test/accuracy": 1.0,
    }
    assert _centres(_metrics(evaluation, "logit ensemble")).keys() == {
        "val/accuracy",
        "test/accuracy",
        "difference/test/accuracy",
    }
