"""Differences that are called detectable, looked for in simulated experiments."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stockpot.statistics.detectable import detectable_mean, detectable_shares


@pytest.mark.parametrize("num_examples", [200, 1400])
@pytest.mark.parametrize("discordance", [0.1, 0.2])
@pytest.mark.parametrize("level", [0.05, 0.005])
def test_mcnemars_test_shows_a_detectable_difference_four_times_of_five(
    num_examples: int, discordance: float, level: float
) -> None:
    difference = detectable_shares(discordance, num_examples, level)

    assert difference is not None
    # The exact test keeps below its level, which costs a little power.
    assert 0.72 <= _power(discordance, difference, num_examples, level) <= 0.84


def _power(discordance: float, difference: float, num_examples: int, level: float) -> float:
    """Return how often McNemar's exact test shows the difference, in 20,000 experiments."""
    shares = [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance]
    drawn = np.random.default_rng(0).multinomial(num_examples, shares, size=20_000)
    won, lost = drawn[:, 0], drawn[:, 1]
    p = 2 * stats.binom.cdf(np.minimum(won, lost), won + lost, 0.5)
    return float(np.mean((p <= level) & (won > lost)))


@pytest.mark.parametrize("level", [0.05, 0.005])
def test_what_is_larger_than_the_disagreement_seen_is_taken_to_be_all_of_it(level: float) -> None:
    none, little = (detectable_shares(discordance, 400, level) for discordance in (0.0, 0.01))

    assert none is not None
    assert none == pytest.approx(little)
    assert _power(none, none * (1 - 1e-9), 400, level) > 0.78


def test_a_paired_test_shows_a_detectable_mean_four_times_of_five() -> None:
    difference = detectable_mean(1.5, 300, 0.05)

    drawn = np.random.default_rng(0).normal(difference, 1.5, size=(5000, 300))
    p = stats.ttest_1samp(drawn, 0, axis=1).pvalue
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.02)


def test_the_detectable_mean_by_hand() -> None:
    assert detectable_mean(0.5, 400, 0.05) == pytest.approx((1.95996 + 0.84162) * 0.5 / 20, 1e-5)


def test_more_examples_or_fewer_disagreements_or_a_laxer_level_detect_smaller_differences() -> None:
    difference = detectable_shares(0.1, 400, 0.05)

    assert difference is not None
    for other in ((0.1, 800, 0.05), (0.05, 400, 0.05), (0.1, 400, 0.2)):
        smaller = detectable_shares(*other)
        assert smaller is not None
        assert smaller < difference


def test_a_handful_of_examples_detects_nothing() -> None:
    assert detectable_shares(0.0, 3, 0.05) is None
    assert detectable_shares(0.0, 30, 0.05) is not None


def test_examples_without_any_difference_do_not_say_what_could_be_seen() -> None:
    assert detectable_mean(0.0, 400, 0.05) is None
