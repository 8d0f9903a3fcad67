"""Consensus task arithmetic by TALL masks (Wang et al. 2024, https://arxiv.org/abs/2405.07813)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.task_vectors import check_scale, sum_weighted
from stockpot.merging.search_ranges import Scale, SearchRange


@method("consensus_ta", num_models=(2, None), is_elementwise=True)
def consensus_ta(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    mask_ratio: Annotated[float, SearchRange(0.1, 1.0)] = 0.4,
    min_models: int = 2,
    scale: Scale = 1.0,
) -> Tensor:
    """Sum the task vectors in the entries that are relevant to several models.

    An entry is relevant to a model if its magnitude is at least `mask_ratio` times its distance
    from the sum.

    Args:
        tensors: M >= 2 same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        coefficients: M numbers, applied before entries are compared; 1 each is the paper's
            method.
        mask_ratio: relative magnitude of a relevant entry, finite and >= 0 (the paper's lambda,
            searched from 0.2 to 0.6).
        min_models: number of models that an entry must be relevant to, in [0, M]; 0 is task
            arithmetic.
        scale: finite factor on the sum (the paper's alpha).

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: an option is out of range.

    Source: the paper's TALL masks and consensus merging. One ratio for all models; the
    authors' code searches one per model on val.
    """
    check_scale("consensus_ta", scale)
    if not 0 <= mask_ratio < float("inf"):
        raise ValueError(f"consensus_ta: mask_ratio must be finite and >= 0, got {mask_ratio}")
    if not 0 <= min_models <= len(tensors):
        raise ValueError(
            f"consensus_ta: min_models must be in [0, {len(tensors)}], got {min_models}"
        )
    total = sum_weighted((tensor - base for tensor in tensors), coefficients)
    num_relevant = torch.zeros_like(total, dtype=torch.int32)
    for tensor, coefficient in zip(tensors, coefficients, strict=True):
        weighted = (tensor - base) * coefficient
        num_relevant += weighted.abs() >= mask_ratio * (total - weighted).abs()
    return base + scale * total.where(num_relevant >= min_models, 0)
