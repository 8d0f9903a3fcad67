from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from stockpot.evaluation.statistics import Bootstrap, Estimate

Floats = NDArray[np.float64]


def _scores(seed: int, num_examples: int = 300) -> Floats:
    return np.random.default_rng(seed).random(num_examples) ** 2


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("num_examples", [20, 300])
def test_the_interval_is_that_of_scipys_percentile_bootstrap(
    confidence: float, num_examples: int
) -> None:
    values = _scores(0, num_examples)

    ours = Bootstrap(num_examples, 20_000, confidence, seed=1).estimate(values)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20_000,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval

    # A percentile of 20,000 resamples is uncertain by a few hundredths of the standard error.
    error = 0.1 * values.std() / num_examples**0.5
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=error)
    assert ours.high == pytest.approx(theirs.high, abs=error)


def test_the_difference_is_that_of_scipys_paired_bootstrap() -> None:
    values = _scores(0)
    reference = 0.8 * values + 0.2 * _scores(1)

    ours = Bootstrap(300, 20_000, 0.95, seed=1).difference(values, reference)
    theirs = stats.bootstrap(
        (values, reference),
        lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis),
        paired=True,
        n_resamples=20_000,
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval

    error = 0.1 * (values - reference).std() / 300**0.5
    assert ours.mean == pytest.approx(values.mean() - reference.mean())
    assert ours.low == pytest.approx(theirs.low, abs=error)
    assert ours.high == pytest.approx(theirs.high, abs=error)


def test_a_constant_difference_has_an_interval_without_width() -> None:
    values = _scores(0)

    estimate = Bootstrap(300, 200, 0.95, seed=0).difference(values + 0.25, values)

    assert [estimate.mean, estimate.low, estimate.high] == pytest.approx([0.25, 0.25, 0.25])


def test_a_model_does_not_differ_from_itself() -> None:
    values = _scores(0)

    assert Bootstrap(300, 200, 0.95, seed=0).difference(values, values) == Estimate(0, 0, 0)


def test_all_right_is_certain() -> None:
    estimate = Bootstrap(50, 200, 0.95, seed=0).estimate(np.ones(50))

    assert [estimate.mean, estimate.low, estimate.high] == pytest.approx([1, 1, 1])


def test_all_models_see_the_same_resamples() -> None:
    bootstrap = Bootstrap(300, 500, 0.95, seed=0)
    first = bootstrap.estimate(_scores(0))
    bootstrap.estimate(_scores(1))

    assert bootstrap.estimate(_scores(0)) == first
    assert Bootstrap(300, 500, 0.95, seed=0).estimate(_scores(0)) == first
    assert Bootstrap(300, 500, 0.95, seed=1).estimate(_scores(0)) != first


def test_a_higher_confidence_is_a_wider_interval() -> None:
    values = _scores(0)

    narrow = Bootstrap(300, 2000, 0.5, seed=0).estimate(values)
    wide = Bootstrap(300, 2000, 0.95, seed=0).estimate(values)

    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_one_example_has_an_interval_of_itself() -> None:
    assert Bootstrap(1, 100, 0.95, seed=0).estimate(np.array([0.5])) == Estimate(0.5, 0.5, 0.5)
