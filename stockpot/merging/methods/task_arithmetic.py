"""Task arithmetic (Ilharco et al. 2023, https://arxiv.org/abs/2212.04089)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.task_vectors import check_scale, normalized, sum_weighted
from stockpot.merging.search_ranges import Scale


@method("task_arithmetic", is_elementwise=True)
def task_arithmetic(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    scale: Scale = 1.0,
    normalize: bool = False,
) -> Tensor:
    """Add the sum of the task vectors, times a scale, to the base.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        coefficients: M numbers; a negative one makes the merged model worse at that task.
        scale: finite factor on the sum (the paper's lambda).
        normalize: whether coefficients are divided by their sum; at scale 1 the result is then
            that of `linear`.

    Returns:
        The merged tensor; shape and dtype of the inputs. A single model with coefficient
        times scale 1 is returned bit for bit.

    Raises:
        ValueError: an option is out of range, or coefficients to normalise sum to 0.

    Source: section 2; coefficients are an addition; 1 each is the paper's method.
    """
    check_scale("task_arithmetic", scale)
    if normalize:
        coefficients = normalized("task_arithmetic", coefficients)
    if len(tensors) == len(coefficients) == 1 and coefficients[0] * scale == 1:
        return tensors[0].clone()  # subtracting and adding the base would round it
    return base + scale * sum_weighted((tensor - base for tensor in tensors), coefficients)
