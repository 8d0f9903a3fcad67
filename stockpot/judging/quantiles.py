"""Quantile predictions: pinball loss, and aggregation over models without crossings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pinball_losses(outputs: Tensor, targets: Tensor, levels: Tensor) -> Tensor:
    """Return the summed pinball loss of each example; (N,).

    Args:
        outputs: predicted quantiles (N, Q).
        targets: (N,).
        levels: of the quantiles, (Q,), in (0, 1).

    Source: Koenker and Bassett 1978: max(q (y - f), (q - 1)(y - f)).
    """
    gaps = targets[:, None] - outputs
    return torch.maximum(levels * gaps, (levels - 1) * gaps).sum(dim=1)


def aggregate_quantiles(outputs: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Average the quantiles predicted by K models, and sort them per example.

    Sorting never raises the summed pinball loss.

    Args:
        outputs: of K models, (N, Q), by ascending level.
        weights: (K,), or (K, Q) for one per level; the sum over models is 1.

    Returns:
        (N, Q), ascending.

    Source: Fakoor et al. 2023 (https://arxiv.org/abs/2103.00083), coarse and medium aggregation;
    sorting by Chernozhukov et al. 2010.
    """
    per_level = weights.reshape(len(outputs), 1, -1)
    return (per_level * torch.stack(list(outputs))).sum(dim=0).sort(dim=1).values
