from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from stockpot.statistics import paired
from stockpot.statistics.paired import PairedTest, mcnemar, paired_test, sign_flips
from stockpot.statistics.values import Floats


@pytest.mark.parametrize(
    ("won", "lost"), [*itertools.product(range(8), range(8)), (12, 3), (60, 90)]
)
def test_mcnemars_p_is_that_of_a_fair_coin(won: int, lost: int) -> None:
    expected = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0

    assert mcnemar(won, lost) == pytest.approx(expected, rel=1e-12)


def test_mcnemars_p_by_hand() -> None:
    # 5 of 5 coins alike: two of 2^5 ways.
    assert mcnemar(5, 0) == pytest.approx(2 / 32)
    assert mcnemar(1, 4) == pytest.approx(2 * 6 / 32)


def test_one_example_says_nothing() -> None:
    assert sign_flips(np.array([0.3]), seed=0) == 1


def _scipy(differences: Floats, resamples: float) -> float:
    found = stats.permutation_test(
        (differences,),
        np.mean,
        vectorized=True,
        permutation_type="samples",
        n_resamples=int(resamples),
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


@pytest.mark.parametrize("num_examples", [2, 5, 12])
@pytest.mark.parametrize("on_a_grid", [True, False])
def test_sign_flips_of_few_examples_are_scipys_exact_test(
    num_examples: int, on_a_grid: bool
) -> None:
    generator = np.random.default_rng(num_examples)
    differences = generator.normal(0.5, 1, num_examples)
    differences = np.round(5 * differences) / 5 if on_a_grid else differences

    assert sign_flips(differences, seed=0) == pytest.approx(_scipy(differences, 1e5), rel=1e-9)


def test_sign_flips_of_many_examples_are_scipys_random_test() -> None:
    differences = np.random.default_rng(0).normal(0.1, 1, 200)

    ours = sign_flips(differences, seed=1)

    # Both p are of 9,999 flips.
    theirs = _scipy(differences, 9999)
    assert 0.05 < theirs < 0.5
    assert ours == pytest.approx(theirs, abs=4 * (2 * theirs * (1 - theirs) / 9999) ** 0.5)


def test_random_flips_depend_on_the_seed_alone() -> None:
    differences = np.random.default_rng(0).normal(0.1, 1, 200)

    assert sign_flips(differences, seed=1) == sign_flips(differences, seed=1)
    assert sign_flips(differences, seed=1) != sign_flips(differences, seed=2)


def test_random_flips_do_not_depend_on_how_many_are_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    differences = np.random.default_rng(0).normal(0.1, 1, 160)  # whole bytes of signs
    at_once = sign_flips(differences, seed=1)

    monkeypatch.setattr(paired, "_MAX_SIGNS", 50_000)

    assert sign_flips(differences, seed=1) == at_once


def test_a_difference_that_no_random_flip_reaches_still_has_a_p() -> None:
    assert sign_flips(np.random.default_rng(0).random(500) + 1, seed=0) == 1 / 10_000


def test_sign_flips_of_means_over_shifts_are_counted_exactly() -> None:
    # As many as 397 examples, but their sums are multiples of 1/5: no two seeds differ.
    generator = np.random.default_rng(0)
    own, reference = generator.binomial(5, 0.8, 397) / 5, generator.binomial(5, 0.77, 397) / 5

    first, second = (paired_test(own, reference, seed=seed) for seed in (0, 1))

    monte_carlo = _scipy(np.round(5 * (own - reference)), 10_000)
    assert first == second
    assert first.p == pytest.approx(monte_carlo, abs=0.02)


def test_sign_flips_of_plus_and_minus_one_are_mcnemars_test() -> None:
    differences = np.repeat([1.0, -1.0, 0.0], [12, 4, 300])

    assert sign_flips(differences, seed=0) == pytest.approx(mcnemar(12, 4), rel=1e-9)


def test_no_difference_at_all_has_p_one() -> None:
    values = np.random.default_rng(0).random(30)

    assert paired_test(values, values, seed=0) == PairedTest("sign flips", 1.0, 30, 0, 0)
    assert mcnemar(0, 0) == 1


def test_a_paired_test_counts_the_examples_of_each_side() -> None:
    own = np.array([1.0, 1, 1, 1, 0, 0, 1])
    reference = np.array([0.0, 0, 0, 1, 1, 0, 1])

    tested = paired_test(own, reference, seed=0)

    assert tested == PairedTest("mcnemar", mcnemar(3, 1), n=7, won=3, lost=1)


def test_last_bits_are_no_difference() -> None:
    own, reference = np.full(50, 0.1 + 0.2), np.full(50, 0.3)

    assert own[0] != reference[0]
    assert paired_test(own, reference, seed=0) == PairedTest("sign flips", 1.0, 50, 0, 0)


def test_swapping_the_models_swaps_won_and_lost() -> None:
    generator = np.random.default_rng(0)
    own, reference = generator.random(40), generator.random(40)

    one, other = paired_test(own, reference, seed=0), paired_test(reference, own, seed=0)

    assert (one.won, one.lost) == (other.lost, other.won)


def test_values_of_different_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="one value per example of both models, got 3 and 2"):
        paired_test(np.ones(3), np.ones(2), seed=0)


@pytest.mark.parametrize("kind", ["normal", "shifts"])
def test_equal_models_are_told_apart_as_often_as_the_level_says(kind: str) -> None:
    generator = np.random.default_rng(5)
    shape = (2, 400, 30)
    drawn = generator.normal(size=shape) if kind == "normal" else generator.binomial(3, 0.7, shape)
    own, reference = drawn / 3

    p = [paired_test(*pair, seed=n).p for n, pair in enumerate(zip(own, reference, strict=True))]

    # Four standard errors around the level.
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.06)
