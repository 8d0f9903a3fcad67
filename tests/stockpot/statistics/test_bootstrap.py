from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from stockpot.statistics.bootstrap import Bootstrap
from stockpot.statistics.estimates import Estimate
from stockpot.statistics.values import Floats


def _scores(seed: int, num_examples: int = 300) -> Floats:
    """Draw skewed values, like losses."""
    return np.random.default_rng(seed).random(num_examples) ** 4


def _scipy(values: Floats, confidence: float, **how: Any) -> tuple[float, float]:
    how = how or {"n_resamples": 20_000, "rng": np.random.default_rng(2)}
    found = stats.bootstrap(
        (values,), np.mean, confidence_level=confidence, method="BCa", **how
    ).confidence_interval
    return float(found.low), float(found.high)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
@pytest.mark.parametrize("num_examples", [20, 300])
def test_intervals_are_those_of_scipys_bootstrap(confidence: float, num_examples: int) -> None:
    values = _scores(0, num_examples)
    bootstrap = Bootstrap(num_examples, 20_000, confidence, seed=1)

    bca = bootstrap.bca(values)

    # A percentile of 20,000 resamples is uncertain by a few hundredths of the standard error.
    error = 0.1 * values.std() / num_examples**0.5
    assert bca.mean == pytest.approx(values.mean())
    assert (bca.low, bca.high) == pytest.approx(_scipy(values, confidence), abs=error)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
@pytest.mark.parametrize("kind", ["skewed", "right or wrong", "two examples", "negative"])
def test_bca_is_scipys_to_the_last_digits_on_the_same_resamples(
    confidence: float, kind: str
) -> None:
    values = {
        "skewed": _scores(0, 50),
        "right or wrong": np.repeat([1.0, 0.0], [47, 3]),
        "two examples": np.array([0.25, 4.0]),
        "negative": -1e6 * _scores(1, 80),
    }[kind]
    bootstrap = Bootstrap(len(values), 1000, confidence, seed=0)
    same = stats.bootstrap((values,), np.mean, n_resamples=2, method="percentile", rng=0)
    same.bootstrap_distribution = np.round(bootstrap.means(values), 12)  # 0.94 as numpy has it

    ours = bootstrap.bca(values)

    theirs = _scipy(values, confidence, n_resamples=0, bootstrap_result=same)
    assert (ours.low, ours.high) == pytest.approx(theirs, rel=1e-9)


def test_the_interval_of_differences_is_that_of_scipys_paired_bootstrap() -> None:
    values = _scores(0)
    reference = 0.8 * values + 0.2 * _scores(1)

    ours = Bootstrap(300, 20_000, 0.95, seed=1).bca(values - reference)
    theirs = stats.bootstrap(
        (values, reference),
        lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis),
        paired=True,
        n_resamples=20_000,
        method="BCa",
        rng=np.random.default_rng(2),
    ).confidence_interval

    error = 0.1 * (values - reference).std() / 300**0.5
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=error)


def test_resamples_whose_means_are_equal_are_equal_to_the_last_bit() -> None:
    # Means over 5 shifts, in whose sums the last bits differ.
    values = np.random.default_rng(0).integers(0, 6, 300) / 5

    means = Bootstrap(300, 500, 0.95, seed=0).means(values)

    fifths = np.unique(np.round(means * 1500))
    assert 50 < len(np.unique(means)) == len(fifths) < 500


def test_values_that_are_all_equal_have_an_interval_without_width() -> None:
    bootstrap = Bootstrap(50, 200, 0.95, seed=0)

    assert bootstrap.bca(np.full(50, 0.3)) == Estimate(*[pytest.approx(0.3)] * 3)


def test_one_example_has_an_interval_of_itself() -> None:
    assert Bootstrap(1, 100, 0.95, seed=0).bca(np.array([0.5])) == Estimate(0.5, 0.5, 0.5)


def test_resamples_that_all_lie_on_one_side_give_an_interval() -> None:
    estimate = Bootstrap(300, 1, 0.95, seed=0).bca(_scores(0))

    assert 0 < estimate.low == estimate.high < 1


def test_all_models_see_the_same_resamples() -> None:
    bootstrap = Bootstrap(300, 500, 0.95, seed=0)
    first = bootstrap.bca(_scores(0))
    bootstrap.bca(_scores(1))

    assert bootstrap.bca(_scores(0)) == first
    assert Bootstrap(300, 500, 0.95, seed=0).bca(_scores(0)) == first
    assert Bootstrap(300, 500, 0.95, seed=1).bca(_scores(0)) != first


def test_a_higher_confidence_is_a_wider_interval() -> None:
    values = _scores(0)

    narrow = Bootstrap(300, 2000, 0.5, seed=0).bca(values)
    wide = Bootstrap(300, 2000, 0.95, seed=0).bca(values)

    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high
