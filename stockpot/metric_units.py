"""What a metric is measured in, and how its scores and their differences are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

_STEPS = 400  # that a usual score has at least; a fraction has 1000


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of a metric: percent for a fraction, else its own.

    Attributes:
        metric: its name.
        is_fraction: whether all its values lie in [0, 1]. Scores are then written in percent and
            differences in points.
        size: of a usual score, above 0; decimals follow from it, and how large a difference is
            large. It is 1 for a fraction.
    """

    metric: str
    is_fraction: bool = True
    size: float = 1.0

    @property
    def factor(self) -> float:
        """What values are multiplied by before they are written."""
        return 100.0 if self.is_fraction else 1.0

    @property
    def decimals(self) -> int:
        """How many decimals a score has: 96.5 (of 0.965), -43.2, -2.345."""
        return 1 if self.is_fraction else max(0, math.ceil(math.log10(_STEPS / self.size)))

    @property
    def scores(self) -> str:
        """What a column of scores holds: "accuracy in %"."""
        return f"{self.metric} in {'%' if self.is_fraction else 'its own unit'}"

    @property
    def points(self) -> str:
        """What stands behind a difference."""
        return "points" if self.is_fraction else f"in {self.metric}"

    @property
    def differences(self) -> str:
        """What an axis of differences shows."""
        return "points" if self.is_fraction else self.metric

    @property
    def points_of_metric(self) -> str:
        """What stands behind a difference where the metric has to be named."""
        return f"points of {self.metric}" if self.is_fraction else self.points

    def score(self, value: float) -> str:
        """Write a score: 0.965 is 96.5, if it is a fraction."""
        return f"{self.factor * value + 0.0:.{self.decimals}f}"

    def score_in_full(self, value: float) -> str:
        """Write a score with its percent sign, if it has one."""
        return f"{self.score(value)} %" if self.is_fraction else self.score(value)

    def signed(self, difference: float, more: int = 0) -> str:
        """Write a difference with its sign, and with so many more decimals than a score."""
        return f"{self.factor * difference:+.{self.decimals + more}f}"

    def difference(self, difference: float) -> str:
        """Write a difference, signed unless it is 0: 0.041 is +4.1, if it is of fractions.

        The sign of what rounds to zero stays, so that an interval from +0.0 reads as above zero.
        """
        return self.score(0.0) if difference == 0 else self.signed(difference)

    def difference_in_full(self, difference: float) -> str:
        """Write a difference with what it is one of: "+4.1 points"."""
        return f"{self.difference(difference)} {self.points}"

    def bounds(self, low: float, high: float) -> str:
        """Write the ends of the interval of a difference."""
        return f"{self.difference(low)} to {self.difference(high)}"

    def to_json(self) -> dict[str, Any]:
        """Return the form in the data of findings."""
        return asdict(self)


def unit_of_scores(metric: str, scores: Iterable[float], *, is_fraction: bool) -> Unit:
    """Return the unit of a metric, whose size is the median of the scores' absolute values."""
    if is_fraction:
        return Unit(metric)
    sizes = [abs(score) for score in scores if score and math.isfinite(score)]
    return Unit(metric, is_fraction=False, size=float(median(sizes)) if sizes else 1.0)


def unit_in(data: Mapping[str, Any]) -> Unit:
    """Read the unit from the data of a finding; those that older versions wrote have none."""
    return Unit(**data["unit"]) if "unit" in data else Unit(str(data.get("metric", "")))
