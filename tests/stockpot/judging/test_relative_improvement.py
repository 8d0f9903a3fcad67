from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from stockpot.judging.relative_improvement import relative_improvement
from stockpot.statistics.intervals import Intervals
from stockpot.statistics.values import Floats


def _right(num_right: int, num: int = 20) -> Floats:
    return (np.arange(num) < num_right).astype(float)


def _compare(values: Floats, draws: Floats, resamples: int = 200) -> dict[str, float]:
    return relative_improvement(values, draws, Intervals(resamples, 0.95, seed=0))


def _table(generator: np.random.Generator, models: int, examples: int) -> Floats:
    """Return who is right on what, all models equally good on examples of unequal difficulty."""
    chances = generator.beta(4, 1, size=examples)
    return (generator.random((models, examples)) < chances).astype(float)


def test_the_example_by_hand() -> None:
    draws = np.array([_right(16), _right(18), _right(17)])  # 0.80, 0.90, 0.85

    found = _compare(_right(18), draws)  # 0.90

    assert found["ri"] == pytest.approx(0.05882, abs=5e-6)
    assert found["mean"] == pytest.approx(0.85)
    assert found["sd"] == pytest.approx(0.05)
    assert found["percentile"] == pytest.approx(2.5 / 3)
    assert found["low"] < found["ri"] < found["high"]


def test_against_itself_a_soup_improves_exactly_nothing() -> None:
    values = np.random.default_rng(0).random(33)

    found = _compare(values, np.array([values] * 7))

    assert (found["ri"], found["low"], found["high"], found["percentile"]) == (0, 0, 0, 0.5)
    assert found["sd"] == 0


def test_random_soups_that_score_nothing_give_no_ratio() -> None:
    found = _compare(_right(5), np.zeros((4, 20)))

    assert (found["ri"], found["low"], found["high"], found["percentile"]) == (0, 0, 0, 1)


def test_a_score_below_zero_improves_upwards() -> None:
    losses = np.random.default_rng(0).random((8, 40)) + 1

    found = _compare(-losses[0] / 2, -losses)

    assert found["ri"] == pytest.approx(0.5, abs=0.1)
    assert 0 < found["low"] < found["high"]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_the_draws_is_without_effect_on_what_is_estimated(seed: int) -> None:
    draws = _table(np.random.default_rng(seed), 6, 50)

    first, second = _compare(draws[0], draws), _compare(draws[0], draws[::-1])

    assert (first["ri"], first["percentile"]) == pytest.approx((second["ri"], second["percentile"]))


def test_one_draw_is_enough() -> None:
    found = _compare(_right(12), _right(10)[None])

    assert found["ri"] == pytest.approx(0.2)
    assert found["sd"] == 0


def test_the_percentile_of_a_random_soup_is_uniform() -> None:
    percentiles = []
    for seed in range(200):
        table = _table(np.random.default_rng(seed), 33, 400)
        percentiles.append(_compare(table[0], table[1:], resamples=2)["percentile"])

    assert kstest(percentiles, "uniform").pvalue > 0.01


def test_intervals_cover_no_improvement_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(500):
        table = _table(np.random.default_rng(seed), 17, 100)
        found = _compare(table[0], table[1:], resamples=200)
        covered += found["low"] <= 0 <= found["high"]

    assert covered / 500 == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / 500))
