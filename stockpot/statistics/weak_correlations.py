"""Variables that correlate weakly with others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def weakly_correlated(values: Mapping[str, Sequence[float]], threshold: float) -> list[str]:
    """Return the variables that correlate less than a threshold with at least one other.

    Args:
        values: K variables by name, none of them constant, each over the same N objects.
        threshold: on Pearson's correlation, in (-1, 1].

    Returns:
        Their names, in the order given.
    """
    if len(values) < 2:
        return []
    table = np.array([[*own] for own in values.values()], dtype=np.float64)  # (K, N)
    # Correlations of 1 are rounded to either side of it.
    is_weak = np.atleast_2d(np.corrcoef(table)) < threshold - 1e-12  # (K, K)
    return [name for name, row in zip(values, is_weak, strict=True) if row.any()]
