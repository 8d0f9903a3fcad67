"""Sparse model soups (Zimmer et al. 2024, https://arxiv.org/abs/2306.16788): the average.

Models retrained from one pruned model with a fixed mask can be averaged without losing sparsity.
`ingredients/finetuning/sparse_training.py` retrains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.merging.sparse_masks import Mask, apply_mask, nonzero_mask


@dataclass(frozen=True, slots=True)
class SparseSoup:
    """An average of sparse models.

    Attributes:
        weights: all tensors.
        mask: the prunable entries that are not 0 in some model.
        density: the fraction of prunable entries in the mask.
    """

    weights: dict[str, Tensor]
    mask: Mask
    density: float


def average_sparse(
    states: Sequence[Mapping[str, Tensor]],
    coefficients: Sequence[float],
    *,
    allow_union: bool = False,
) -> SparseSoup:
    """Average sparse models with one mask; the average is as sparse as each of them.

    Args:
        states: M models, with 0 where they are pruned.
        coefficients: M numbers; their sum is not 0.
        allow_union: whether masks may differ; the average then has the union of the masks.

    Raises:
        InputError: masks differ although they must not, with the name of a tensor; or the models
            cannot be merged.

    Source: section 3.1; the check of the masks is an addition.
    """
    # First, since it checks names and shapes.
    merged = merge_states(states, Recipe.of(linear, tuple(coefficients)))
    masks = [nonzero_mask(state) for state in states]
    if not allow_union:
        _check_equal(masks)
    union = {name: torch.stack([m[name] for m in masks]).any(dim=0) for name in masks[0]}
    num_kept = sum(int(kept.sum()) for kept in union.values())
    num_entries = sum(kept.numel() for kept in union.values())
    return SparseSoup(apply_mask(merged, union), union, num_kept / max(1, num_entries))


def check_equal_masks(states: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Require that models are 0 in the same places.

    Args:
        states: the models' tensors by their names.

    Raises:
        InputError: the masks of two models differ.
    """
    names, masks = list(states), [nonzero_mask(state) for state in states.values()]
    sizes = [sum(kept.numel() for kept in mask.values()) for mask in masks]
    for name, mask, size in zip(names, masks, sizes, strict=True):
        num_different = sum(int((mask[t] != masks[0][t]).sum()) for t in mask)
        if num_different:
            raise InputError(
                f"ingredients of a soup must be pruned by one mask, got {name} and {names[0]}: "
                f"{num_different / size:.1%} of weights are 0 in one alone; set masks: union, "
                "intersection or first, to say which weights the soup keeps, or none to fill them"
            )


def _check_equal(masks: Sequence[Mask]) -> None:
    for position, mask in enumerate(masks):
        for name, kept in mask.items():
            num_different = int((kept != masks[0][name]).sum())
            if num_different:
                raise InputError(
                    f"tensor {name!r} of model {position}: is 0 in other places than model 0's "
                    f"({num_different} differ); average models of one mask, or allow a union"
                )
