"""Groups of variables that correlate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse.csgraph import connected_components


def correlated_groups(values: Mapping[str, Sequence[float]], threshold: float) -> list[list[str]]:
    """Divide variables so that those of different groups correlate less than a threshold.

    Args:
        values: K variables by name, none of them constant, each over the same N objects.
        threshold: on Pearson's correlation, in (-1, 1].

    Returns:
        The names of each group, in the order given. Two variables are in one group if a chain of
        variables between them correlates at least so much, link by link.
    """
    if not values:
        return []
    table = np.array([[*own] for own in values.values()], dtype=np.float64)  # (K, N)
    # Correlations of 1 are rounded to either side of it.
    is_linked = np.atleast_2d(np.corrcoef(table)) >= threshold - 1e-12
    count, labels = connected_components(is_linked, directed=False)
    names = [*values]
    return [[n for n, own in zip(names, labels, strict=True) if own == one] for one in range(count)]
