"""Masks of sparse models (Zimmer et al. 2024, https://arxiv.org/abs/2306.16788).

The fraction of weights that each phase of pruning and retraining removes, and the entries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Mask = dict[str, Tensor]
"""Name of a prunable tensor -> True for entries to keep; bool, in the tensor's shape."""


def phase_fraction(sparsity: float, num_phases: int) -> float:
    """Return the fraction of the remaining weights that each phase removes.

    Args:
        sparsity: the fraction of weights that are 0 after the last phase, in [0, 1).
        num_phases: number of times that the model is pruned and retrained.

    Raises:
        ValueError: an argument is out of range.

    Source: `q` with (1 - q)^n = 1 - s; iterative magnitude pruning (Frankle & Carbin 2019).
    """
    _check_phases(sparsity, num_phases)
    return 1.0 - math.pow(1 - sparsity, 1 / num_phases)


def density_after(phase: int, sparsity: float, num_phases: int) -> float:
    """Return the fraction of all prunable weights that remain after a phase, counted from 1.

    It refers to all weights, not to those of the previous phase, so that rounding does not add up.

    Raises:
        ValueError: an argument is out of range.
    """
    _check_phases(sparsity, num_phases)
    if phase not in range(num_phases + 1):
        raise ValueError(f"density_after: phase must be from 0 to {num_phases}, got {phase}")
    return math.pow(1 - sparsity, phase / num_phases)


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


def magnitude_mask(
    weights: Mapping[str, Tensor],
    density: float,
    within: Mask | None = None,
    *,
    min_per_tensor: int = 1,
) -> Mask:
    """Keep the largest prunable entries of the whole model.

    Args:
        weights: a model's tensors.
        density: the fraction of all prunable entries to keep, in [0, 1]; rounded to an entry.
        within: the mask of the phase before, of which the result is a subset; None for all.
        min_per_tensor: number of entries of each tensor that are kept in any case, so that no
            layer is removed; 0 for none.

    Returns:
        The mask. Of equal magnitudes, the lowest flat indices are kept, in the order of tensors.

    Raises:
        ValueError: `density` is out of range, or asks for more entries than `within` has, or for
            fewer than `min_per_tensor` of each tensor.

    Source: algorithm 1, the global selector.
    """
    names = prunable_names(weights)
    allowed = within or {name: torch.ones_like(weights[name], dtype=torch.bool) for name in names}
    sizes = [weights[name].numel() for name in names]
    num_kept = round(density * sum(sizes))
    ranks = torch.cat([_ranks(weights[name], allowed[name], min_per_tensor) for name in names])
    possible, least = int((ranks >= 0).sum()), int(ranks.isinf().sum())
    if not least <= num_kept <= possible:
        raise ValueError(
            f"magnitude_mask: density must keep from {least} to {possible} of {sum(sizes)} "
            f"entries, got {density}, which keeps {num_kept}"
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


def _check_phases(sparsity: float, num_phases: int) -> None:
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparse soups: sparsity must be in [0, 1), got {sparsity}")
    if not num_phases >= 1:
        raise ValueError(f"sparse soups: num_phases must be at least 1, got {num_phases}")


def _ranks(weight: Tensor, allowed: Tensor, least: int) -> Tensor:
    """Return sort keys (P,): magnitudes, inf for entries to keep, -1 for pruned ones."""
    magnitudes = weight.detach().abs().flatten().float().where(allowed.flatten(), -1)
    first = magnitudes.argsort(descending=True, stable=True)[:least]
    protected = magnitudes.clone()
    protected[first] = torch.inf
    return protected.where(magnitudes >= 0, -1)
