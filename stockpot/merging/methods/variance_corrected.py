"""Averaging that preserves the variance of weights, for nearly uncorrelated models.

Tian et al. 2024, https://arxiv.org/abs/2404.04616.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.shares import positive_shares
from stockpot.merging.search_ranges import Share

_CONSTANT = 1e-30  # variances below it are 0


@method("variance_corrected")
def variance_corrected(
    tensors: Sequence[Tensor],
    coefficients: Sequence[float],
    *,
    eps: float = 1e-12,
    min_ndim: int = 2,
    own_share: Share = 0.0,
) -> Tensor:
    """Average the tensors, then rescale the entries about their mean to the models' variance.

    The mean of M independent models has 1/M of their variance. Models fine-tuned from one base
    are correlated; for them the result is close to that of `linear`.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        coefficients: M numbers of at least 0, in the order of `tensors`, not all 0.
        eps: added to both variances before they are compared, at least 0.
        min_ndim: tensors of fewer axes are averaged and not rescaled, at least 0; by default those
            of one axis, since scales of normalization layers are all close to 1.
        own_share: share of the first model's variance in the wanted one, in [0, 1]; the rest is the
            mean variance of all models. In gossip learning the first model is a client's own.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: an option or a coefficient is out of its range.

    Source: variance-corrected averaging: `others` (own_share 0), `self` (1), or a mixture. The code
    of the authors adds 1e-4, large relative to variances of 1e-3, and rescales tensors of one axis.
    """
    if not eps >= 0:
        raise ValueError(f"variance_corrected: eps must be at least 0, got {eps}")
    if not min_ndim >= 0:
        raise ValueError(f"variance_corrected: min_ndim must be at least 0, got {min_ndim}")
    if not 0 <= own_share <= 1:
        raise ValueError(f"variance_corrected: own_share must be in [0, 1], got {own_share}")
    parts = positive_shares("variance_corrected", coefficients)
    mean = linear(tensors, coefficients)
    if mean.numel() < 2 or mean.ndim < min_ndim or len(tensors) == 1:
        return mean
    variance = float(mean.var())
    if variance < _CONSTANT:
        return mean
    shared = sum(part * float(t.var()) for part, t in zip(parts, tensors, strict=True))
    wanted = own_share * float(tensors[0].var()) + (1 - own_share) * shared
    centre = mean.mean()
    return (mean - centre) * math.sqrt((wanted + eps) / (variance + eps)) + centre
