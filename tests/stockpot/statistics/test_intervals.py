"""Intervals against references, and how often they cover in simulated experiments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import optimize, stats

from stockpot.statistics.bootstrap import Bootstrap
from stockpot.statistics.estimates import Estimate
from stockpot.statistics.intervals import Intervals, tango, wilson
from stockpot.statistics.values import Floats

NUM_EXPERIMENTS = 1000
NUM_EXAMPLES = 400


def _coverage(intervals: list[Estimate], truth: float) -> float:
    return float(np.mean([one.low <= truth <= one.high for one in intervals]))


@pytest.mark.parametrize("num_right", [0, 1, 31, 40])
def test_wilsons_interval_is_scipys(num_right: int) -> None:
    theirs = stats.binomtest(num_right, 40).proportion_ci(0.9, method="wilson")

    ours = wilson(num_right, 40, 0.9)

    assert ours.mean == num_right / 40
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def _least_chi_square(won: int, lost: int, num_examples: int, assumed: float) -> float:
    """Return the score statistic's square, with its shares found by maximising the likelihood."""
    counts = np.array([won, lost, num_examples - won - lost])

    def surprise(lost_share: float) -> float:
        shares = np.array([lost_share + assumed, lost_share, 1 - 2 * lost_share - assumed])
        return float(-(counts * np.log(np.maximum(shares, 1e-300))).sum())

    bounds = (max(0.0, -assumed), (1 - assumed) / 2)
    lost_share = optimize.minimize_scalar(
        surprise, bounds=bounds, method="bounded", options={"xatol": 1e-12}
    ).x
    variance = num_examples * (2 * lost_share + assumed - assumed**2)
    return float((won - lost - num_examples * assumed) ** 2 / variance)


@pytest.mark.parametrize(("won", "lost"), [(12, 3), (3, 12), (7, 7), (1, 0), (20, 20)])
def test_tangos_ends_are_where_the_score_test_rejects(won: int, lost: int) -> None:
    ours = tango(won, lost, 40, 0.95)

    quantile = stats.chi2.ppf(0.95, 1)
    assert ours.mean == (won - lost) / 40
    assert ours.low < ours.mean < ours.high
    for end in (ours.low, ours.high):
        assert _least_chi_square(won, lost, 40, end) == pytest.approx(quantile, rel=1e-4)


def test_tangos_interval_of_models_that_agree_on_all_examples_is_that_of_one_share() -> None:
    # No example tells the two apart: the ends are those of Wilson's interval for 0 of n.
    ours = tango(0, 0, 100, 0.95)

    end = wilson(0, 100, 0.95).high
    assert (ours.mean, ours.low, ours.high) == pytest.approx((0, -end, end))


def test_tangos_interval_ends_at_one() -> None:
    assert tango(5, 0, 5, 0.95).high == 1
    assert tango(0, 5, 5, 0.95).low == -1
    assert -1 < tango(5, 0, 5, 0.95).low < 1


def test_swapping_the_models_mirrors_the_interval() -> None:
    one, other = tango(9, 2, 60, 0.9), tango(2, 9, 60, 0.9)

    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


@pytest.mark.parametrize("accuracy", [0.75, 0.9, 0.97])
def test_the_interval_of_an_accuracy_covers_as_often_as_it_says(accuracy: float) -> None:
    intervals = Intervals(100, 0.95, seed=0)
    experiments = np.random.default_rng(1).random((NUM_EXPERIMENTS, NUM_EXAMPLES)) < accuracy

    found = [intervals.estimate(experiment.astype(float)) for experiment in experiments]

    assert 0.93 <= _coverage(found, accuracy) <= 0.97


@pytest.mark.parametrize(("won", "lost"), [(0.01, 0.01), (0.02, 0.01), (0.05, 0.02), (0.15, 0.1)])
def test_the_interval_of_a_difference_of_accuracies_covers_as_often_as_it_says(
    won: float, lost: float
) -> None:
    intervals = Intervals(100, 0.95, seed=0)
    drawn = np.random.default_rng(2).random((NUM_EXPERIMENTS, NUM_EXAMPLES))
    own, reference = (drawn >= lost).astype(float), (drawn < 1 - won).astype(float)

    found = [intervals.difference(*pair) for pair in zip(own, reference, strict=True)]

    assert 0.93 <= _coverage(found, won - lost) <= 0.97


def _losses(generator: np.random.Generator) -> Floats:
    return generator.exponential(size=(NUM_EXPERIMENTS, NUM_EXAMPLES)) ** 1.5


def _means_over_five_shifts(generator: np.random.Generator) -> Floats:
    return generator.binomial(5, 0.9, size=(NUM_EXPERIMENTS, NUM_EXAMPLES)) / 5


@pytest.mark.parametrize(
    ("draw", "truth"), [(_losses, 1.329340388), (_means_over_five_shifts, 0.9)]
)
def test_the_interval_of_other_values_covers_as_often_as_it_says(
    draw: Callable[[np.random.Generator], Floats], truth: float
) -> None:
    intervals = Intervals(1000, 0.95, seed=0)
    experiments = draw(np.random.default_rng(3))

    found = [intervals.estimate(experiment) for experiment in experiments]

    assert 0.93 <= _coverage(found, truth) <= 0.97


@pytest.mark.parametrize("draw", [_losses, _means_over_five_shifts])
def test_the_interval_of_a_difference_of_other_values_covers_as_often_as_it_says(
    draw: Callable[[np.random.Generator], Floats],
) -> None:
    intervals = Intervals(1000, 0.95, seed=0)
    generator = np.random.default_rng(4)
    own = draw(generator)
    reference = np.where(generator.random(own.shape) < 0.7, own, draw(generator))

    found = [intervals.difference(*pair) for pair in zip(own, reference, strict=True)]

    assert 0.93 <= _coverage(found, 0.0) <= 0.97


def test_values_that_are_not_right_or_wrong_get_the_bootstrap() -> None:
    values = np.random.default_rng(0).random(60)

    estimate = Intervals(500, 0.9, seed=7).estimate(values)

    assert estimate == Bootstrap(60, 500, 0.9, seed=7).bca(values)


def test_the_interval_of_a_difference_of_other_values_is_scipys_paired_one() -> None:
    own, reference = np.random.default_rng(0).random((2, 60))

    ours = Intervals(500, 0.9, seed=7).difference(own, reference)

    theirs = stats.ttest_rel(own, reference).confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.mean == pytest.approx(own.mean() - reference.mean())


def test_a_difference_that_is_the_same_for_all_examples_has_no_width() -> None:
    own = np.arange(8) / 8

    assert Intervals(500, 0.9, seed=7).difference(own + 0.25, own) == Estimate(0.25, 0.25, 0.25)
    assert Intervals(500, 0.9, seed=7).difference(np.array([0.5]), np.array([0.25])).high == 0.25


def test_values_that_are_right_or_wrong_get_score_intervals() -> None:
    own, reference = np.array([1.0, 1, 1, 0]), np.array([1.0, 0, 0, 1])
    intervals = Intervals(500, 0.9, seed=7)

    assert intervals.estimate(own) == wilson(3, 4, 0.9)
    assert intervals.difference(own, reference) == tango(2, 1, 4, 0.9)


def test_all_right_is_not_certain() -> None:
    estimate = Intervals(500, 0.95, seed=0).estimate(np.ones(400))

    # The rule of three: 0 of 400 errors leaves room for about 3 of 400 and a little more.
    assert estimate.high == estimate.mean == 1
    assert 1 - 4 / 400 < estimate.low < 1 - 3 / 400
