"""Holm's correction of p-values for multiple tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of a family of tests for the family-wise error rate.

    Returns:
        The adjusted values in the order given, at most 1. The step-down procedure rejects the
        tests whose adjusted value is below the level.

    Source: Holm 1979, https://www.jstor.org/stable/4615733, section 3.
    """
    order = np.argsort(p_values, kind="stable")
    multiples = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(multiples), 1)
    return [float(p) for p in adjusted]
