"""Comparisons of models with a reference on the same examples: difference, interval, test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any

from stockpot.statistics.detectable import detectable_mean, detectable_shares
from stockpot.statistics.holm import holm
from stockpot.statistics.intervals import Intervals
from stockpot.statistics.paired import PairedTest, paired_test
from stockpot.statistics.values import Floats


@dataclass(frozen=True, slots=True)
class Comparison(PairedTest):
    """A paired test of a model and a reference, with their difference.

    Attributes:
        difference: of the means.
        low: lower end of its interval.
        high: upper end of its interval.
        detectable: the smallest difference that is detected with power 0.8; None if unknown.
    """

    difference: float
    low: float
    high: float
    detectable: float | None


def compare(
    values: Floats, reference: Floats, intervals: Intervals, *, num_compared: int = 1
) -> Comparison:
    """Compare a model with a reference by per-example values of both (N,); higher is better.

    Args:
        values: the model's.
        reference: the reference's, of the same examples in the same order.
        intervals: computes the interval; its confidence sets the level of `detectable`.
        num_compared: size of the family of comparisons; corrects `detectable` (Bonferroni).

    Raises:
        ValueError: the numbers of examples differ.
    """
    tested = paired_test(values, reference, seed=intervals.seed)
    difference, low, high = astuple(intervals.difference(values, reference))
    level = _level(intervals.confidence) / num_compared
    if tested.test == "mcnemar":
        detectable = detectable_shares((tested.won + tested.lost) / tested.n, tested.n, level)
    else:
        detectable = detectable_mean(float((values - reference).std()), tested.n, level)
    return Comparison(
        **asdict(tested), difference=difference, low=low, high=high, detectable=detectable
    )


def compare_family(
    values: Mapping[str, Mapping[str, Floats]], reference: str, intervals: Intervals
) -> list[dict[str, Any]]:
    """Compare all models with one of them in every place, as one family for Holm's correction.

    Args:
        values: per-example values (N,) by model, then by place; each place has its own set of
            examples. The reference has all places.
        reference: name of the model that the others are compared with.
        intervals: computes the intervals; 1 - confidence is the level of the tests.

    Returns:
        The `comparisons` of the evaluation manifest, by model, then by place.
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
    """Return the level of tests for a confidence: 0.05 for 0.95."""
    return round(1 - confidence, 12)
