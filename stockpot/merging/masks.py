"""Masks of merged models: which entries of weights may differ from 0.

Pruned models have a mask. A merge of different masks, or with a base that is not pruned, would fill
entries that were 0 without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Masks = Literal["union", "intersection", "first", "none"]
"""Which entries a merge keeps: those that any model has, all have, or the first one has; or all."""

MASKS: tuple[str, ...] = get_args(Masks)


def masked(name: str, merged: Tensor, tensors: Sequence[Tensor], masks: Masks | None) -> Tensor:
    """Set the entries of a merged weight to 0 that are not in the mask; others are unchanged.

    Args:
        name: of the tensor; biases and tensors other than weights have no mask.
        merged: the merged tensor, or a run of its entries.
        tensors: those of the models, 0 where they are pruned.
        masks: which entries are kept; None and `none` for all.
    """
    if masks in (None, "none") or not is_weight(name):
        return merged
    if masks == "first":
        return merged.where(tensors[0] != 0, 0)
    live = [tensor != 0 for tensor in tensors]
    joined = reduce(lambda a, b: a | b if masks == "union" else a & b, live)
    return merged.where(joined, 0)


def is_weight(name: str) -> bool:
    """Whether a tensor is a layer's weight, by its name."""
    return name.rpartition(".")[2] == "weight"
