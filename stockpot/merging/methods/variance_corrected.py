"""Averaging that keeps the weights' variance, for models that are hardly correlated.

Tian et al. 2024, https://arxiv.org/abs/2404.04616.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stockpot.merging.method import method
from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.shares import positive_shares

if TYPE_CHECKING:
    from torch import Tensor

_CONSTANT = 1e-30  # a variance below: there is nothing to stretch


@method("variance_corrected")
def variance_corrected(
    tensors: Sequence[Tensor],
    coefficients: Sequence[float],
    *,
    eps: float = 1e-12,
    min_ndim: int = 2,
) -> Tensor:
    """Average the tensors, then stretch the entries about their mean to the models' variance.

    The mean of M independent models has an M-th of their variance. Models of one base are
    correlated, and for them this is close to `linear`.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        coefficients: M numbers of at least 0, in the order of `tensors`, not all 0.
        eps: added to both variances before they are compared, at least 0.
        min_ndim: tensors of fewer axes are averaged and not stretched, at least 0; by default
            those of one, since scales of normalisation lie close about 1.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: an option or a coefficient is out of its range.

    Source: variance-corrected averaging, to the mean variance of the models. The reference adds
    1e-4, which is large beside variances of 1e-3, and stretches tensors of one axis too.
    """
    if not eps >= 0:
        raise ValueError(f"variance_corrected: eps must be at least 0, got {eps}")
    if not min_ndim >= 0:
        raise ValueError(f"variance_corrected: min_ndim must be at least 0, got {min_ndim}")
    parts = positive_shares("variance_corrected", coefficients)
    mean = linear(tensors, coefficients)
    if mean.numel() < 2 or mean.ndim < min_ndim or len(tensors) == 1:
        return mean
    variance = float(mean.var())
    if variance < _CONSTANT:
        return mean
    wanted = sum(part * float(t.var()) for part, t in zip(parts, tensors, strict=True))
    centre = mean.mean()
    return (mean - centre) * math.sqrt((wanted + eps) / (variance + eps)) + centre
