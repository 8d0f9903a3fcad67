"""Masks of sparse models (Zimmer et al. 2024, https://arxiv.org/abs/2306.16788)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Mask = dict[str, Tensor]
"""Name of a prunable tensor -> True for entries to keep; bool, in the tensor's shape."""


def prunable_names(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names of prunable tensors: weights without biases and scales of norms.

    Source: `weight` of every module but BatchNorm in the authors' code; the restriction to tensors
    of at least two axes also excludes LayerNorm.
    """
    return [
        name
        for name, tensor in weights.items()
        if name.rpartition(".")[2] == "weight" and tensor.ndim >= 2
    ]


def magnitude_mask(weights: Mapping[str, Tensor], density: float) -> Mask:
    """Keep the largest prunable entries of the whole model, and the largest one of each tensor.

    Args:
        weights: a model's tensors.
        density: the fraction of all prunable entries to keep, in [0, 1]; rounded to an entry.

    Returns:
        The mask. Of equal magnitudes, the lowest flat indices are kept, in the order of tensors.
        Of a model pruned before it is a subset, since weights that are 0 are the smallest.

    Raises:
        ValueError: `density` asks for more entries than there are, or for fewer than tensors.

    Source: algorithm 1, the global selector; that no tensor is removed whole is an addition.
    """
    names = prunable_names(weights)
    sizes = [weights[name].numel() for name in names]
    num_kept = round(density * sum(sizes))
    ranks = torch.cat([_ranks(weights[name]) for name in names])
    least = int(ranks.isinf().sum())
    if not least <= num_kept <= len(ranks):
        raise ValueError(
            f"magnitude_mask: density must keep from {least} to {len(ranks)} entries, got "
            f"{density}, which keeps {num_kept}"
        )
    kept = torch.zeros_like(ranks, dtype=torch.bool)
    kept[ranks.argsort(descending=True, stable=True)[:num_kept]] = True
    pieces = zip(names, torch.split(kept, sizes), strict=True)
    return {name: piece.view_as(weights[name]) for name, piece in pieces}


def apply_mask(weights: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
    """Set the entries outside the mask to 0; tensors without a mask are returned unchanged."""
    return {
        name: tensor.where(mask[name], 0) if name in mask else tensor
        for name, tensor in weights.items()
    }


def nonzero_mask(weights: Mapping[str, Tensor]) -> Mask:
    """Return the mask of a sparse model: its prunable entries that are not 0."""
    return {name: weights[name] != 0 for name in prunable_names(weights)}


def _ranks(weight: Tensor) -> Tensor:
    """Return sort keys (P,): magnitudes, and inf for the first of the largest ones."""
    magnitudes = weight.detach().abs().flatten().float()
    magnitudes[magnitudes.argsort(descending=True, stable=True)[:1]] = torch.inf
    return magnitudes
