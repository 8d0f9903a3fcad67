"""The unit of a metric, and the format of its scores and of their differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

_STEPS = 400  # lowest number of distinct values up to a usual score; fractions have 1000


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of a metric: percent for a fraction, else the metric's own.

    Attributes:
        metric: its name.
        is_fraction: whether all its values lie in [0, 1]. Scores are then written in percent and
            differences in points.
        size: magnitude of a usual score, above 0; 1 for a fraction. It sets the number of decimals
            and the scale of differences.
    """

    metric: str
    is_fraction: bool = True
    size: float = 1.0

    @property
    def factor(self) -> float:
        """Factor of written values."""
        return 100.0 if self.is_fraction else 1.0

    @property
    def decimals(self) -> int:
        """Number of decimals of a score: 96.5 (of 0.965), -43.2, -2.345."""
        return 1 if self.is_fraction else max(0, math.ceil(math.log10(_STEPS / self.size)))

    @property
    def scores(self) -> str:
        """Heading of a column of scores: "accuracy in %"."""
        return f"{self.metric} in {'%' if self.is_fraction else 'its own unit'}"

    @property
    def points(self) -> str:
        """Unit behind a difference."""
        return "points" if self.is_fraction else f"in {self.metric}"

    @property
    def differences(self) -> str:
        """Label of an axis of differences."""
        return "points" if self.is_fraction else self.metric

    @property
    def points_of_metric(self) -> str:
        """Unit behind a difference, with the name of the metric."""
        return f"points of {self.metric}" if self.is_fraction else self.points

    def score(self, value: float) -> str:
        """Format a score: 0.965 is 96.5 for a fraction."""
        return f"{self.factor * value + 0.0:.{self.decimals}f}"

    def score_in_full(self, value: float) -> str:
        """Format a score, with a percent sign for a fraction."""
        return f"{self.score(value)} %" if self.is_fraction else self.score(value)

    def signed(self, difference: float, more: int = 0) -> str:
        """Format a difference with its sign, and with `more` decimals than a score."""
        return f"{self.factor * difference:+.{self.decimals + more}f}"

    def finely(self, difference: float) -> str:
        """Format a difference with its sign and one decimal more than a score."""
        return self.signed(difference, more=1)

    def difference(self, difference: float) -> str:
        """Format a difference, signed unless it is 0: 0.041 is +4.1 for a fraction.

        Values that round to zero keep their sign, so that an interval from +0.0 is above zero.
        """
        return self.score(0.0) if difference == 0 else self.signed(difference)

    def difference_in_full(self, difference: float) -> str:
        """Format a difference with its unit: "+4.1 points"."""
        return f"{self.difference(difference)} {self.points}"

    def bounds(self, low: float, high: float) -> str:
        """Format the ends of the interval of a difference."""
        return f"{self.difference(low)} to {self.difference(high)}"

    def to_json(self) -> dict[str, Any]:
        """Return the form in the data of findings."""
        return asdict(self)


def unit_of_scores(metric: str, scores: Iterable[float], *, is_fraction: bool) -> Unit:
    """Return the unit of a metric; its size is the median of the scores' absolute values."""
    if is_fraction:
        return Unit(metric)
    sizes = [abs(score) for score in scores if score and math.isfinite(score)]
    return Unit(metric, is_fraction=False, size=float(median(sizes)) if sizes else 1.0)


def unit_in(data: Mapping[str, Any]) -> Unit:
    """Read the unit from the data of a finding; those of older versions have none."""
    return Unit(**data["unit"]) if "unit" in data else Unit(str(data.get("metric", "")))
