from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from stockpot.judging.conformal import (
    clopper_pearson,
    coverage,
    fit_threshold,
    prediction_sets,
)


def _logits(shares: list[list[float]]) -> Tensor:
    return torch.tensor(shares).double().log()


def test_coverage_over_resplits_is_what_was_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(600, 5, generator=generator)
    targets = torch.randint(5, (600,), generator=generator)
    covered = []

    for _ in range(200):
        val, test = torch.randperm(600, generator=generator).split([100, 500])
        threshold = fit_threshold(logits[val], targets[val], alpha=0.1)
        sets = prediction_sets(logits[test], threshold)
        covered.append(coverage(sets, targets[test], 0.95)["coverage"])

    noise = 3 * np.std(covered) / math.sqrt(200)
    assert 0.9 - noise <= np.mean(covered) <= 0.9 + 1 / 101 + noise


def test_the_threshold_by_hand() -> None:
    # The targets' probabilities are 0.9, 0.8, 0.7 and 0.6; 4 of 5 is the least of them at 0.2.
    logits = _logits([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    targets = torch.tensor([0, 0, 1, 1])

    assert fit_threshold(logits, targets, alpha=0.2) == pytest.approx(0.6)
    assert fit_threshold(logits, targets, alpha=0.4) == pytest.approx(0.7)
    assert fit_threshold(logits, targets, alpha=0.1) == -math.inf


def test_sets_hold_the_classes_from_the_threshold_on() -> None:
    logits = _logits([[0.5, 0.3, 0.2], [0.98, 0.01, 0.01], [1 / 3, 1 / 3, 1 / 3]])

    assert prediction_sets(logits, 0.25).tolist() == [
        [True, True, False],
        [True, False, False],
        [True, True, True],
    ]
    assert prediction_sets(logits, 0.6).sum(dim=1).tolist() == [0, 1, 0]
    assert prediction_sets(logits, -math.inf).all()


def test_coverage_counts_the_sets_that_hold_the_target() -> None:
    sets = torch.tensor([[True, False], [True, True], [False, False], [False, True]])

    found = coverage(sets, torch.tensor([0, 1, 1, 0]), 0.95)

    assert (found["coverage"], found["mean_size"]) == (0.5, 1.0)
    assert (found["low"], found["high"]) == clopper_pearson(2, 4, 0.95)


@pytest.mark.parametrize(("right", "size"), [(0, 10), (3, 10), (10, 10), (380, 397)])
def test_the_interval_is_scipys(right: int, size: int) -> None:
    theirs = stats.binomtest(right, size).proportion_ci(0.95, method="exact")

    assert clopper_pearson(right, size, 0.95) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1])
def test_a_share_outside_0_and_1_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\), got"):
        fit_threshold(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), alpha)
