"""The paired comparison of two models on the same examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stockpot.errors import InputError
from stockpot.statistics.comparisons import Comparison
from stockpot.statistics.comparisons import compare as compare_paired
from stockpot.statistics.intervals import Intervals

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def compare(
    values: ArrayLike, reference: ArrayLike, *, confidence: float = 0.95, seed: int = 0
) -> Comparison:
    """Compare a model with a reference, example by example.

    The test is McNemar's exact test where all values are 0 or 1, and a test by sign flips
    elsewhere; the interval of the difference is Tango's score interval, or Student's.

    Args:
        values: the model's score on each of N examples; higher is better.
        reference: the reference's scores on the same examples, in the same order.
        confidence: of the interval, in (0, 1).
        seed: of random sign flips, where exact ones are too many.

    Returns:
        The difference of the means with its interval, the two-sided p, the number of examples on
        which the model is better (`won`) and worse (`lost`), and the smallest difference that N
        such examples detect with power 0.8.

    Raises:
        InputError: the two are not one finite number per example, of the same examples.

    Example:
        >>> import stockpot
        >>> soup = [1] * 90 + [0] * 10
        >>> single = [1] * 80 + [0] * 20
        >>> result = stockpot.compare(soup, single)
        >>> print(f"{result.difference:+.2f} [{result.low:.2f}, {result.high:.2f}]")
        +0.10 [0.06, 0.17]
        >>> print(f"p {result.p:.3f}, {result.won} won, {result.lost} lost")
        p 0.002, 10 won, 0 lost
    """
    ours, theirs = (np.asarray(each, dtype=np.float64) for each in (values, reference))
    if ours.ndim != 1 or ours.shape != theirs.shape or not len(ours):
        raise InputError(
            "compare: values and reference must be one number per example, of the same examples, "
            f"got shapes {ours.shape} and {theirs.shape}"
        )
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise InputError("compare: values and reference must be finite, got NaN or infinity")
    if not 0 < confidence < 1:
        raise InputError(f"compare: confidence must be in (0, 1), got {confidence}")
    return compare_paired(ours, theirs, Intervals(2000, confidence, seed))
