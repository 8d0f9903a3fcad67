"""An upper bound on the error of the mean of the accepted ingredients."""

from __future__ import annotations

from math import comb
from typing import Any

from torch import Tensor

from stockpot.diagnostics.precheck.check import rounded
from stockpot.statistics.intervals import clopper_pearson


def error_bound(
    values: Tensor, delta: float, num_ingredients: int, num_left_out: int
) -> dict[str, Any] | None:
    """Bound the error of the mean of the accepted ingredients by its values on val.

    The bound is the upper end of a Clopper-Pearson interval, whose two sides miss equally often.
    Which ingredients are accepted was decided on the same examples, so the bound holds for all
    choices at once: those that leave out e of M ingredients share delta / 2^(e + 1).

    Args:
        values: the metric of each example of val, (N,).
        delta: the probability that the bound is too low, in (0, 1).
        num_ingredients: M.
        num_left_out: e, the number of ingredients that are not in the mean.

    Returns:
        The `certificate` of the manifest; None if the metric is not 0 or 1 for each example.
    """
    if not bool(((values == 0) | (values == 1)).all()):
        return None
    choices = 2 ** (num_left_out + 1) * comb(num_ingredients, num_left_out)
    wrong = int((values == 0).sum())
    _, error_below = clopper_pearson(wrong, len(values), 1 - 2 * delta / choices)
    return {
        "split": "val",
        "num_examples": len(values),
        "num_wrong": wrong,
        "delta": delta,
        "choices": choices,
        "error_below": rounded(error_below),
    }
