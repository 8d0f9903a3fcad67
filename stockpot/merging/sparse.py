"""Sparse model soups (Zimmer et al. 2024, https://arxiv.org/abs/2306.16788): masks, averages.

One pruned model, retrained several times with its mask kept, gives models that can be averaged
without filling in the zeros. What is here are the parts: how much to prune a phase, what to prune,
and the average. Retraining is the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe

Mask = dict[str, Tensor]
"""Name of a prunable tensor -> which of its entries are kept; bool, in the tensor's shape."""


@dataclass(frozen=True, slots=True)
class SparseSoup:
    """An average of sparse models.

    Attributes:
        weights: all tensors.
        mask: which prunable entries any of the models keeps.
        density: the fraction of prunable entries that are kept.
    """

    weights: dict[str, Tensor]
    mask: Mask
    density: float


def phase_fraction(sparsity: float, num_phases: int) -> float:
    """Return the fraction of the remaining weights that each phase removes.

    Args:
        sparsity: the fraction of weights that are 0 after the last phase, in [0, 1).
        num_phases: how many times a model is pruned and retrained.

    Raises:
        ValueError: an argument is out of range.

    Source: `q` with (1 - q)^n = 1 - s; iterative magnitude pruning (Frankle & Carbin 2019).
    """
    _check_phases(sparsity, num_phases)
    return 1.0 - math.pow(1 - sparsity, 1 / num_phases)


def density_after(phase: int, sparsity: float, num_phases: int) -> float:
    """Return the fraction of all prunable weights that are kept after a phase, from 1 on.

    Counted from all weights, not phase by phase, so that rounding does not add up.

    Raises:
        ValueError: an argument is out of range.
    """
    _check_phases(sparsity, num_phases)
    if phase not in range(num_phases + 1):
        raise ValueError(f"density_after: phase must be from 0 to {num_phases}, got {phase}")
    return math.pow(1 - sparsity, phase / num_phases)


def prunable_names(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that are pruned: weights, no biases, no norms' scales.

    Source: `weight` of every module but BatchNorm in the authors' code; that these are the ones
    of at least two axes is ours, and leaves out LayerNorm too.
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
        density: the fraction of all prunable entries to keep, in [0, 1]; met to half an entry.
        within: the mask of the phase before, which nothing outside of is kept; None for all.
        min_per_tensor: how many entries of each tensor are kept whatever their size, so that no
            layer is cut; 0 for none.

    Returns:
        The mask. Of equal magnitudes the lowest flat indices are kept, tensors in their order.

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
    """Return the tensors with 0 where the mask does not keep them; others as they are."""
    return {
        name: tensor.where(mask[name], 0) if name in mask else tensor
        for name, tensor in weights.items()
    }


def nonzero_mask(weights: Mapping[str, Tensor]) -> Mask:
    """Return the mask of a model that is sparse already: its prunable entries that are not 0."""
    return {name: weights[name] != 0 for name in prunable_names(weights)}


def average_sparse(
    states: Sequence[Mapping[str, Tensor]],
    coefficients: Sequence[float],
    *,
    allow_union: bool = False,
) -> SparseSoup:
    """Average sparse models of one mask; the average is as sparse as each of them.

    Args:
        states: M models, with 0 where they are pruned.
        coefficients: M numbers; their sum is not 0.
        allow_union: whether masks may differ; the average then keeps what any model keeps.

    Raises:
        InputError: masks differ and may not; the message names a tensor. Or the models cannot be
            merged.

    Source: section 3.1; that other masks are refused is ours.
    """
    # First, for its checks of names and shapes.
    merged = merge_states(states, Recipe("linear", tuple(coefficients)))
    masks = [nonzero_mask(state) for state in states]
    if not allow_union:
        _check_equal(masks)
    union = {name: torch.stack([m[name] for m in masks]).any(dim=0) for name in masks[0]}
    num_kept = sum(int(kept.sum()) for kept in union.values())
    num_entries = sum(kept.numel() for kept in union.values())
    return SparseSoup(apply_mask(merged, union), union, num_kept / max(1, num_entries))


def _check_phases(sparsity: float, num_phases: int) -> None:
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparse soups: sparsity must be in [0, 1), got {sparsity}")
    if not num_phases >= 1:
        raise ValueError(f"sparse soups: num_phases must be at least 1, got {num_phases}")


def _ranks(weight: Tensor, allowed: Tensor, least: int) -> Tensor:
    """Return what entries are ordered by: magnitudes, inf for must, -1 for must not; (P,)."""
    magnitudes = weight.detach().abs().flatten().float().where(allowed.flatten(), -1)
    first = magnitudes.argsort(descending=True, stable=True)[:least]
    protected = magnitudes.clone()
    protected[first] = torch.inf
    return protected.where(magnitudes >= 0, -1)


def _check_equal(masks: Sequence[Mask]) -> None:
    for position, mask in enumerate(masks):
        for name, kept in mask.items():
            num_different = int((kept != masks[0][name]).sum())
            if num_different:
                raise InputError(
                    f"tensor {name!r} of model {position}: is 0 in other places than model 0's "
                    f"({num_different} differ); average models of one mask, or allow a union"
                )
