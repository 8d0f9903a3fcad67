"""Weighted averaging: model soups (Wortsman et al. 2022, https://arxiv.org/abs/2203.05482)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stockpot.merging.method import method

if TYPE_CHECKING:
    from torch import Tensor


@method("linear", is_elementwise=True, is_sum=True)
def linear(tensors: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
    """Average the tensors, weighted by the coefficients.

    The sum is formed in the order given and divided by the sum of the coefficients at the end, so
    that coefficients of 1 give the same bits as a running sum divided by the number of models,
    which greedy selection uses. A single model is returned bit for bit.

    Args:
        tensors: M same-named tensors, one per model; one shape, any floating-point dtype.
        coefficients: M numbers, in the order of `tensors`; their sum is not 0.

    Returns:
        The merged tensor; shape of the inputs, float64 if one of them is, otherwise float32.

    Raises:
        ValueError: the coefficients sum to 0.

    Source: section 2 ("uniform soup" with equal coefficients).
    """
    total = sum(coefficients)
    if total == 0:
        raise ValueError(f"linear: coefficients must not sum to 0, got {list(coefficients)}")
    if len(tensors) == len(coefficients) == 1:
        return _wide(tensors)  # multiplying and dividing by 0.7 would round it
    merged = _wide(tensors).mul_(coefficients[0])
    product = merged.new_empty(merged.shape)  # one for all models: new memory takes longer
    for tensor, coefficient in zip(tensors[1:], coefficients[1:], strict=True):
        # Not a fused `add(alpha=...)`: whether it rounds once or twice depends on an entry's
        # place in the vectorized loop, so a flattened model would differ in bits.
        merged += product.copy_(tensor).mul_(coefficient)
    # By a tensor: dividing by a number, CUDA multiplies by its reciprocal, which rounds twice.
    return merged.div_(merged.new_full((), total))


def _wide(tensors: Sequence[Tensor]) -> Tensor:
    """Return a copy of the first tensor in the dtype of the sum of all."""
    import torch

    is_double = any(tensor.dtype == torch.float64 for tensor in tensors)
    return tensors[0].to(torch.float64 if is_double else torch.float32, copy=True)
