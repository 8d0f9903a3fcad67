"""p-values of tests that are made together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of a family of tests, so that any false alarm in it has the level.

    Returns:
        The adjusted values in the order given: at least as large, at most 1, in the same order
        of size. Those below the level are the tests that the step-down procedure rejects.

    Source: Holm 1979, https://www.jstor.org/stable/4615733, section 3.
    """
    order = np.argsort(p_values, kind="stable")
    multiples = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(multiples), 1)
    return [float(p) for p in adjusted]
