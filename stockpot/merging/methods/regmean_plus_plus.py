"""RegMean++ (Nguyen et al. 2026, https://arxiv.org/abs/2508.03121)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.regmean import closest_outputs
from stockpot.merging.search_ranges import Share


@method("regmean_plus_plus")
def regmean_plus_plus(
    tensors: Sequence[Tensor],
    cross_grams: Sequence[Tensor | None],
    coefficients: Sequence[float],
    *,
    reduce: Share = 0.95,
    ridge: float = 1e-6,
) -> Tensor:
    """Find the layer whose outputs are nearest to each model's on what the merged net passes to it.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        cross_grams: for each model, in the order of `tensors`, the matrices of `regmean`, whose
            inputs come from the merged layers before this block of layers, and from the model's own
            layers inside it. None for other tensors, which are averaged.
        coefficients: M numbers of at least 0, in the order of `tensors`, not all 0.
        reduce: factor in [0, 1] on off-diagonal entries (the paper's alpha).
        ridge: added to the diagonal, as a fraction of its mean; finite and at least 0.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: as `regmean`.

    Source: the paper's objective, which is RegMean's with other inputs; how they are measured is
    described in `stockpot.soups.preparation.cross_grams`.
    """
    return closest_outputs(
        "regmean_plus_plus", tensors, cross_grams, coefficients, reduce=reduce, ridge=ridge
    )
