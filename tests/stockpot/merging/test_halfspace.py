"""Methods that average do what averaging must: the error of K learners shrinks like 1/sqrt(K)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import pytest
import torch
from halfspace import angle, expected_angle, learner
from torch import Tensor

from stockpot.merging.methods.karcher import karcher
from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.multislerp import multislerp
from stockpot.merging.methods.task_arithmetic import task_arithmetic

Average = Callable[[Sequence[Tensor]], Tensor]

AVERAGES: dict[str, Average] = {
    "linear": lambda learners: linear(learners, [1.0] * len(learners)),
    "task_arithmetic": lambda learners: task_arithmetic(
        learners, torch.zeros_like(learners[0]), [1 / len(learners)] * len(learners)
    ),
    "karcher": lambda learners: karcher(learners, [1.0] * len(learners)),
    "multislerp": lambda learners: multislerp(learners, coefficients=[1.0] * len(learners)),
}


def _mean_angle(average: Average, num_learners: int) -> float:
    generator = torch.Generator().manual_seed(0)
    draws = [[learner(generator) for _ in range(num_learners)] for _ in range(10)]
    return fmean(angle(average(learners)) for learners in draws)


def test_the_expected_angles_are_those_of_the_closed_form() -> None:
    angles = [expected_angle(number) for number in (1, 4, 16)]

    assert angles == pytest.approx([0.5016, 0.2676, 0.1362], abs=1e-4)


def test_a_learner_alone_has_the_expected_angle() -> None:
    assert _mean_angle(AVERAGES["linear"], 1) == pytest.approx(expected_angle(1), rel=0.1)


@pytest.mark.parametrize("num_learners", [4, 16])
@pytest.mark.parametrize("method", AVERAGES)
def test_an_average_has_the_expected_angle(method: str, num_learners: int) -> None:
    found = _mean_angle(AVERAGES[method], num_learners)

    assert found == pytest.approx(expected_angle(num_learners), rel=0.1)
