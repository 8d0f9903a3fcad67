"""Whether a challenger replaces a champion."""

from __future__ import annotations

from dataclasses import dataclass

from stockpot.statistics.paired import PairedTest, paired_test
from stockpot.statistics.values import Floats


@dataclass(frozen=True, slots=True)
class Promotion:
    """The decision, and why.

    Attributes:
        is_promoted: whether the challenger replaces the champion.
        reason: one sentence with the figures that decided.
        difference: mean of the challenger minus that of the champion.
        tested: the paired test of the two.
    """

    is_promoted: bool
    reason: str
    difference: float
    tested: PairedTest


def judge_challenger(
    challenger: Floats, champion: Floats, metric: str, *, level: float, seed: int
) -> Promotion:
    """Promote a challenger that wins the paired test on the champion's own test data.

    The test is two-sided, and a win lies on one of its sides: of challengers that are no better
    than their champions, at most half of `level` are promoted.

    Args:
        challenger: per-example values (N,); higher is better.
        champion: of the same examples in the same order.
        metric: what the values are, for the reason.
        level: p has to be below it, in (0, 1).
        seed: of the test's random flips.

    Raises:
        ValueError: the two are not of the same examples.
    """
    tested = paired_test(challenger, champion, seed=seed)
    difference = float(challenger.mean() - champion.mean())
    is_promoted = tested.p < level and difference > 0
    return Promotion(is_promoted, _reason(tested, difference, metric, level), difference, tested)


def _reason(tested: PairedTest, difference: float, metric: str, level: float) -> str:
    if tested.won == tested.lost == 0:
        return f"The challenger equals the champion on all {tested.n} examples."
    figures = (
        f"better on {tested.won} and worse on {tested.lost} of {tested.n} examples "
        f"({metric} {difference:+.4f}, p = {tested.p:.2g})"
    )
    if tested.p >= level:
        return f"The challenger is {figures}: chance would do as much, p is not below {level:g}."
    side = "beats" if difference > 0 else "loses to"
    return f"The challenger {side} the champion: {figures}, below the level {level:g}."
