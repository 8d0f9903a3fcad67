"""WiSE-FT: weight-space ensembles (Wortsman et al. 2022, https://arxiv.org/abs/2109.01903)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stockpot.merging.method import method
from stockpot.merging.search_ranges import Share

if TYPE_CHECKING:
    from torch import Tensor


@method("wise_ft", num_models=(1, 1), is_elementwise=True)
def wise_ft(tensors: Sequence[Tensor], base: Tensor, *, alpha: Share = 0.5) -> Tensor:
    """Interpolate linearly from the base to a model fine-tuned from it.

    Args:
        tensors: the fine-tuned model's tensor, float32 or float64.
        base: the base's tensor; same shape and dtype.
        alpha: position in [0, 1]; 0 returns the base, 1 the model, bit for bit.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: `alpha` is outside [0, 1].

    Source: equation (1).
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"wise_ft: alpha must be in [0, 1], got {alpha}")
    # Base plus difference: entries that agree stay exact, unlike in a sum of two products.
    if alpha == 1:
        return tensors[0].clone()
    return base + (tensors[0] - base) * alpha
