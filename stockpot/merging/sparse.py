"""Sparse model soups (Zimmer et al. 2024, https://arxiv.org/abs/2306.16788): equal masks.

Models retrained from one pruned model with a fixed mask can be averaged without losing sparsity.
`ingredients/finetuning/sparse_training.py` retrains.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.sparse_masks import nonzero_mask


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
