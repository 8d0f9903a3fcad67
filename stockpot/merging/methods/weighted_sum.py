"""Weighted sums, whose coefficients need not sum to 1."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.task_vectors import sum_weighted


@method("weighted_sum", is_elementwise=True)
def weighted_sum(tensors: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
    """Sum the tensors times their coefficients, without dividing by the sum of these.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        coefficients: M numbers, in the order of `tensors`. If they sum to 1, the result is that
            of `linear`; otherwise all weights are scaled by their sum, also those on which the
            models agree.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Source: mergekit's `linear` with `normalize: false`.
    """
    return sum_weighted(tensors, coefficients)
