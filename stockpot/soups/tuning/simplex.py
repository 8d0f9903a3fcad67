"""Coefficients on the simplex as a box that any sampler can search."""

from __future__ import annotations

from collections.abc import Sequence


def to_simplex(position: Sequence[float]) -> list[float]:
    """Map a point of the unit box (M,) to M coefficients >= 0 that sum to 1.

    The point is divided by its sum, so that a corner is a 0/1 choice of ingredients exactly: the
    warm starts (uniform, greedy, best single) are points of the box. The origin, which has no
    direction, stands for the uniform soup.
    """
    total = sum(position)
    if total == 0:
        return [1 / len(position)] * len(position)
    return [value / total for value in position]
