"""What is certain of the mean of the ingredients that were accepted."""

from __future__ import annotations

from math import comb
from typing import Any

from torch import Tensor

from stockpot.diagnostics.precheck.check import rounded


def error_bound(num_wrong: int, num_examples: int, delta: float) -> float:
    """Return what an error rate is below, with confidence 1 - delta.

    Source: Clopper & Pearson 1934, The use of confidence or fiducial limits; the upper one alone.
    """
    from scipy.stats import beta

    if num_wrong == num_examples:
        return 1.0
    return float(beta.ppf(1 - delta, num_wrong + 1, num_examples - num_wrong))


def certify(values: Tensor, delta: float, num_ingredients: int, num_left_out: int) -> Any:
    """Bound the error of the mean of the accepted ingredients from its val scores.

    Which ingredients are in it was decided on the same examples, so the bound holds for all
    choices at once: those that leave out e of M share delta / 2^(e + 1).

    Args:
        values: the metric of each example of val, (N,).
        delta: the probability that the bound is too low, in (0, 1).
        num_ingredients: M.
        num_left_out: e, the number that are not in the mean.

    Returns:
        A mapping for the manifest; None where the metric is not 0 or 1 for each example.
    """
    if not bool(((values == 0) | (values == 1)).all()):
        return None
    choices = 2 ** (num_left_out + 1) * comb(num_ingredients, num_left_out)
    wrong = int((values == 0).sum())
    return {
        "split": "val",
        "num_examples": len(values),
        "num_wrong": wrong,
        "delta": delta,
        "choices": choices,
        "error_below": rounded(error_bound(wrong, len(values), delta / choices)),
    }
