"""Copy of one model."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.task_vectors import check_scale
from stockpot.merging.search_ranges import Scale


@method("passthrough", num_models=(1, 1), is_elementwise=True)
def passthrough(tensors: Sequence[Tensor], *, scale: Scale = 1.0) -> Tensor:
    """Copy the model, its weights times a factor.

    Args:
        tensors: one tensor, float32 or float64.
        scale: the factor; with 1 the model is copied bit for bit.

    Returns:
        The scaled tensor; shape and dtype of the input.

    Raises:
        ValueError: `scale` is not finite.

    Source: mergekit's `passthrough`; the plan of the merge stacks layers.
    """
    check_scale("passthrough", scale)
    return tensors[0] * scale
