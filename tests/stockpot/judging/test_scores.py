from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from stockpot.judging.scores import Scores, shown
from stockpot.scoring.metrics.metric import TaskMetric, mean_metric

TARGETS = torch.tensor([0, 0, 1])


def _first(outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG001 (the form of a metric)
    return outputs[:, 0]


def _spread(outputs: Tensor, targets: Tensor) -> float:  # noqa: ARG001 (the form of a metric)
    return float(outputs.max() - outputs.min()) if len(outputs) > 2 else float("nan")


FIRST = mean_metric("first", _first, higher_is_better=True)
SPREAD = TaskMetric("spread", False, _spread)


def test_metrics_are_added_under_their_place() -> None:
    scores = Scores()

    scores.add("val", [FIRST, SPREAD], torch.tensor([[1.0], [2.0], [6.0]]), TARGETS)

    assert scores.values == {"val/first": 3.0, "val/spread": 5.0}
    assert {name: v.tolist() for name, v in scores.per_example.items()} == {
        "val/first": [1.0, 2.0, 6.0]
    }


def test_what_is_not_a_number_is_left_out() -> None:
    scores = Scores()

    scores.add("val", [FIRST, SPREAD], torch.tensor([[1.0], [torch.inf]]), TARGETS[:2])

    assert scores.values == {}
    assert scores.per_example == {}


def test_means_are_over_the_shifts_example_by_example() -> None:
    scores = Scores()
    for shift, output in (("a", 1.0), ("a b", 3.0), ("c", 8.0)):
        outputs = output * torch.tensor([[1.0], [2.0], [0.0]])
        scores.add(f"shift/{shift}", [FIRST, SPREAD], outputs, TARGETS)

    scores.add_means("shift", ["a", "a b", "c"], [True] * 3)

    assert scores.values["shift/mean/first"] == pytest.approx(4.0)
    assert scores.values["shift/mean/spread"] == pytest.approx(8.0)
    np.testing.assert_allclose(scores.per_example["shift/mean/first"], [4.0, 8.0, 0.0])


def test_a_metric_that_a_shift_lacks_has_no_mean() -> None:
    scores = Scores()
    scores.add("shift/a", [FIRST, SPREAD], torch.ones(3, 1), TARGETS)
    scores.add("shift/b", [FIRST], torch.ones(3, 1), TARGETS)

    scores.add_means("shift", ["a", "b"], [True] * 2)
    scores.add_means("val_shift", [], [])

    assert {name for name in scores.values if "mean" in name} == {"shift/mean/first"}


def test_a_test_shift_is_shown_as_a_shift() -> None:
    names = ["val", "val_shift/a", "test", "test_shift/a", "test_shift/test_shift/b"]

    assert [shown(name) for name in names] == [
        "val",
        "val_shift/a",
        "test",
        "shift/a",
        "shift/test_shift/b",
    ]
