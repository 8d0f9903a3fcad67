"""Coefficients that may not be negative."""

from __future__ import annotations

from collections.abc import Sequence

from stockpot.merging.methods.task_vectors import normalized


def positive_shares(method: str, coefficients: Sequence[float]) -> list[float]:
    """Return the coefficients, none of which may be negative, divided by their sum.

    Raises:
        ValueError: one is negative, or all are 0.
    """
    if min(coefficients) < 0:
        raise ValueError(f"{method}: coefficients must be at least 0, got {list(coefficients)}")
    return normalized(method, coefficients)
