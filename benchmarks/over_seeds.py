"""Differences over seeds, as all benchmarks print them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stockpot.statistics.estimates import Estimate
from stockpot.statistics.intervals import student


def over_seeds(values: Sequence[float]) -> Estimate:
    """Return the mean of one value per seed with its 95 % interval (Student)."""
    return student(np.asarray(values, dtype=np.float64), 0.95)


def half_width(estimate: Estimate) -> float:
    """Return half the width of an interval of Student."""
    return (estimate.high - estimate.low) / 2


def with_interval(estimate: Estimate, digits: int = 1, sign: str = "+") -> str:
    """Return a mean with its interval, e.g. `+0.5 [-0.7, +1.6]`; sign "": without the +."""
    mean, low, high = (
        f"{round(value, digits) + 0.0:{sign}.{digits}f}"  # + 0.0: no -0.0
        for value in (estimate.mean, estimate.low, estimate.high)
    )
    return f"{mean} [{low}, {high}]"


def verdict(estimate: Estimate, *, lower_is_better: bool = False) -> str:
    """Return `better`, `worse` or, where the interval includes 0, `no difference`."""
    if estimate.low <= 0 <= estimate.high:
        return "no difference"
    return "better" if (estimate.mean > 0) != lower_is_better else "worse"
