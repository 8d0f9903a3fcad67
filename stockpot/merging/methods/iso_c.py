"""Iso-C: isotropic merging (Marczak et al. 2025, https://arxiv.org/abs/2502.04959)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.singular_vectors import svd_on_support
from stockpot.merging.methods.task_vectors import check_scale
from stockpot.merging.search_ranges import Scale


@method("iso_c")
def iso_c(tensors: Sequence[Tensor], base: Tensor, *, scale: Scale = 1.0) -> Tensor:
    """Sum the task vectors and replace all singular values of the sum by their mean.

    Tensors that are not matrices get the mean of the task vectors.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the base's tensor; same shape and dtype.
        scale: factor on the merged task vector (the paper's alpha).

    Returns:
        The merged tensor; shape and dtype of `base`.

    Raises:
        ValueError: `scale` is not finite.

    Source: Iso-C. Singular values of 0 stay 0 and are left out of the mean: their
    directions are rounding noise, which would dominate a sum of low rank.
    """
    check_scale("iso_c", scale)
    total = sum((tensor - base for tensor in tensors), torch.zeros_like(base))
    if base.ndim != 2:
        return base + total * (scale / len(tensors))
    u, s, vt = svd_on_support(total)
    return base + u @ vt * (scale * s.sum() / max(1, len(s)))
