from __future__ import annotations

import math

import pytest
import torch
from sklearn import metrics as sk

from stockpot.scoring.metrics import TASK_METRICS

METRICS = {metric.name: metric for metric in TASK_METRICS["regression"]}


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3)])
def test_metrics_agree_with_scikit_learn(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(shape, generator=generator)
    outputs = targets + 0.5 * torch.randn(shape, generator=generator)

    values = {name: metric.value(outputs, targets) for name, metric in METRICS.items()}

    assert values == pytest.approx(
        {
            "rmse": sk.root_mean_squared_error(targets, outputs),
            "mae": sk.mean_absolute_error(targets, outputs),
            "r2": sk.r2_score(targets, outputs),
        },
        rel=1e-5,
    )


def test_values_by_hand() -> None:
    outputs, targets = torch.tensor([[1.0], [2.0], [6.0]]), torch.tensor([1.0, 4.0, 4.0])

    values = {name: metric.value(outputs, targets) for name, metric in METRICS.items()}

    assert values == pytest.approx({"rmse": math.sqrt(8 / 3), "mae": 4 / 3, "r2": 1 - 8 / 6})
    assert METRICS["mae"].per_example is not None
    assert METRICS["mae"].per_example(outputs, targets).tolist() == [0, 2, 2]


def test_directions() -> None:
    directions = {name: metric.higher_is_better for name, metric in METRICS.items()}

    assert directions == {"rmse": False, "mae": False, "r2": True}


def test_one_example_explains_no_variance() -> None:
    assert math.isnan(METRICS["r2"].value(torch.ones(1), torch.zeros(1)))


@pytest.mark.parametrize("name", METRICS)
def test_outputs_and_targets_of_different_shapes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"must have one shape, got \(4, 2\) and \(4,\)"):
        METRICS[name].value(torch.ones(4, 2), torch.ones(4))
