"""Normalized coefficients of methods that allow no negative ones."""

from __future__ import annotations

from collections.abc import Sequence

from stockpot.merging.methods.task_vectors import normalized


def positive_shares(method: str, coefficients: Sequence[float]) -> list[float]:
    """Return non-negative coefficients divided by their sum.

    Raises:
        ValueError: one is negative, or all are 0.
    """
    if min(coefficients) < 0:
        raise ValueError(f"{method}: coefficients must be at least 0, got {list(coefficients)}")
    return normalized(method, coefficients)
