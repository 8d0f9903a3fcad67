"""A mean over examples with its interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over examples, or a difference of two, with its interval."""

    mean: float
    low: float
    high: float
