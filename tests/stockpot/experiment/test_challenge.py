from __future__ import annotations

import numpy as np
import pytest

from stockpot.experiment.challenge import Verdict, judge_challenger
from stockpot.statistics.paired import mcnemar


def _judge(won: int, lost: int, num_examples: int = 397, level: float = 0.05) -> Verdict:
    same = num_examples - won - lost
    challenger = np.repeat([1.0, 0, 1], [won, lost, same])
    champion = np.repeat([0.0, 1, 1], [won, lost, same])
    return judge_challenger(challenger, champion, "accuracy", level=level, seed=0)


def test_a_challenger_that_wins_the_test_is_promoted() -> None:
    decision = _judge(12, 3)

    assert decision.is_promoted
    assert decision.comparison["difference"] == pytest.approx(9 / 397)
    assert decision.comparison["p"] == mcnemar(12, 3)
    assert decision.reason == (
        "The challenger beats the champion: better on 12 and worse on 3 of 397 examples "
        "(accuracy +0.0227, p = 0.035), below the level 0.05."
    )


def test_a_challenger_that_could_be_lucky_is_not() -> None:
    decision = _judge(9, 4)

    assert not decision.is_promoted
    assert decision.reason == (
        "The challenger is better on 9 and worse on 4 of 397 examples (accuracy +0.0126, "
        "p = 0.27): this may be chance, as p is not below 0.05."
    )


def test_a_challenger_that_is_clearly_worse_is_not_promoted() -> None:
    decision = _judge(3, 12)

    assert not decision.is_promoted
    assert decision.reason.startswith("The challenger loses to the champion: better on 3 and worse")


def test_the_champion_does_not_replace_itself() -> None:
    decision = _judge(0, 0)

    assert not decision.is_promoted
    assert decision.reason == "The challenger equals the champion on all 397 examples."


def test_a_p_at_the_level_itself_is_not_enough() -> None:
    assert not _judge(6, 0, level=2 / 64).is_promoted
    assert _judge(6, 0, level=0.0313).is_promoted


def test_other_values_are_tested_by_sign_flips() -> None:
    champion = np.random.default_rng(0).random(300)

    decision = judge_challenger(champion + 0.01, champion, "nll", level=0.05, seed=0)

    assert decision.is_promoted
    assert decision.comparison["test"] == "sign flips"


@pytest.mark.parametrize("level", [0.01, 0.05, 0.2])
def test_equal_models_are_promoted_no_more_often_than_the_level(level: float) -> None:
    generator = np.random.default_rng(0)
    both_right = generator.random((1000, 397)) < 0.9
    either = generator.random((1000, 397)) < 0.5  # of the rest, one of the two is right
    challengers = (both_right | either).astype(float)
    champions = (both_right | ~either).astype(float)

    promoted = [
        judge_challenger(*pair, "accuracy", level=level, seed=0).is_promoted
        for pair in zip(challengers, champions, strict=True)
    ]

    # Two-sided, so half the level in truth; three standard errors of 1,000 promotions above that.
    allowance = 3 * (level / 2 * (1 - level / 2) / 1000) ** 0.5
    assert np.mean(promoted) <= min(level, level / 2 + allowance)
    assert sum(promoted) > 0


def test_models_that_saw_different_examples_are_not_compared() -> None:
    with pytest.raises(ValueError, match="one value per example of both models"):
        judge_challenger(np.ones(5), np.ones(4), "accuracy", level=0.05, seed=0)
