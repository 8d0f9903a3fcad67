"""Per-example values, and rounding that makes equal sums compare as equal."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


def is_right_or_wrong(values: Floats) -> bool:
    """Report whether all values are 0 or 1, as those of accuracy are."""
    return bool(np.isin(values, (0, 1)).all())


def are_fractions(values: Floats) -> bool:
    """Report whether all values except NaN lie in [0, 1]."""
    known = values[~np.isnan(values)]
    return bool(((known >= 0) & (known <= 1)).all())


def snapped(values: Floats, scale: float) -> Floats:
    """Round to multiples of about 1e-12 of `scale`, so that equal sums compare as equal.

    The last bits of a sum depend on the order of summation. Tests and intervals count ties, which
    such bits would break.

    Args:
        values: sums or differences, any shape.
        scale: magnitude of the summands, at least 0.
    """
    step = float(np.spacing(scale)) * 2**12
    return np.asarray(np.round(values / step) * step)
