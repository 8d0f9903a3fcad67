"""Map from the unit box, which any sampler can search, to coefficients on the simplex."""

from __future__ import annotations

from collections.abc import Sequence


def to_simplex(position: Sequence[float]) -> list[float]:
    """Map a point of the unit box (M,) to M coefficients >= 0 that sum to 1.

    The point is divided by its sum, so that a corner of the box is the mean of some ingredients
    exactly, such as the warm starts (uniform, greedy, best single). The origin is mapped to the
    uniform soup.
    """
    total = sum(position)
    if total == 0:
        return [1 / len(position)] * len(position)
    return [value / total for value in position]
