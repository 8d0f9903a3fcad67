"""Models against one reference, on the same examples: how much, how sure, better or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stockpot.statistics.detectable import detectable_mean, detectable_shares
from stockpot.statistics.holm import holm
from stockpot.statistics.intervals import Intervals
from stockpot.statistics.paired import paired_test
from stockpot.statistics.values import Floats


@dataclass(frozen=True, slots=True)
class Comparison:
    """One model against a reference on the same examples.

    Attributes:
        difference: of the means.
        low: the interval's lower end.
        high: its upper end.
        p: two-sided, of this comparison alone.
        test: which test gave it.
        n: how many examples.
        won: examples on which the model is better.
        lost: examples on which it is worse.
        detectable: the smallest difference that so many examples show with power 0.8; None where
            nothing is known of it.
    """

    difference: float
    low: float
    high: float
    p: float
    test: str
    n: int
    won: int
    lost: int
    detectable: float | None


def compare(
    values: Floats, reference: Floats, intervals: Intervals, *, num_compared: int = 1
) -> Comparison:
    """Compare a model with a reference by per-example values of both (N,); higher is better.

    Args:
        values: the model's.
        reference: the reference's, of the same examples in the same order.
        intervals: how the interval is made, and the level of `detectable`.
        num_compared: the size of the family of comparisons, which `detectable` allows for: what
            is shown however the others turn out (Bonferroni).

    Raises:
        ValueError: the two are not of the same examples.
    """
    tested = paired_test(values, reference, seed=intervals.seed)
    estimate = intervals.difference(values, reference)
    level = _level(intervals.confidence) / num_compared
    if tested.test == "mcnemar":
        detectable = detectable_shares((tested.won + tested.lost) / tested.n, tested.n, level)
    else:
        detectable = detectable_mean(float((values - reference).std()), tested.n, level)
    return Comparison(
        difference=estimate.mean,
        low=estimate.low,
        high=estimate.high,
        detectable=detectable,
        **asdict(tested),
    )


def compare_family(
    values: Mapping[str, Mapping[str, Floats]], reference: str, intervals: Intervals
) -> list[dict[str, Any]]:
    """Compare all models with one of them, in every place; one family for Holm's correction.

    Args:
        values: per-example values (N,) by model, then by place; each place is a set of examples
            of its own. The reference has all places.
        reference: the model that the others are compared with.
        intervals: how they are made; outcomes are at the level that goes with their confidence.

    Returns:
        The `comparisons` of the evaluation manifest: models in the order given, places within.
    """
    others = {name: places for name, places in values.items() if name != reference}
    pairs = [(name, place) for name, places in others.items() for place in places]
    compared = [
        compare(others[name][place], values[reference][place], intervals, num_compared=len(pairs))
        for name, place in pairs
    ]
    adjusted = holm([comparison.p for comparison in compared])
    return [
        {
            "model": name,
            "reference": reference,
            "place": place,
            **asdict(comparison),
            "p_holm": p_holm,
            "outcome": _outcome(comparison.difference, p_holm, _level(intervals.confidence)),
        }
        for (name, place), comparison, p_holm in zip(pairs, compared, adjusted, strict=True)
    ]


def _outcome(difference: float, p_holm: float, level: float) -> str:
    if p_holm >= level:
        return "no difference"
    return "better" if difference > 0 else "worse"


def _level(confidence: float) -> float:
    """Return the level of tests that goes with intervals of this confidence: 0.05 for 0.95."""
    return round(1 - confidence, 12)
