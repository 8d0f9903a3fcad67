"""Ranges in which the options of merge methods are searched, unless params.yaml names others.

A method says so in its signature: `density: Density = 0.2`, or, for a range of its own,
`t: Annotated[float, SearchRange(0.0, 1.0)]`. They are ranges of useful values, inside of those that
the method accepts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from stockpot.merging.per_model import PerModel


@dataclass(frozen=True, slots=True)
class SearchRange:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: the lowest value.
        high: the highest value.
        is_log: whether they are tried uniformly in the logarithm; then `low` is positive.
    """

    low: float
    high: float
    is_log: bool = False


Density: TypeAlias = Annotated[PerModel, SearchRange(0.1, 1.0)]
"""Fraction of the entries of a task vector that are kept."""

Scale: TypeAlias = Annotated[float, SearchRange(0.3, 3.0, is_log=True)]
"""Factor on a merged task vector."""

Share: TypeAlias = Annotated[float, SearchRange(0.0, 1.0)]
"""A position between two ends, or a part of a whole."""
