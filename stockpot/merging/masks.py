"""Masks of merged models: which entries of weights may differ from 0.

Pruned models have a mask. A merge of different masks, or with a base that is not pruned, would fill
entries that were 0 without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Literal

from stockpot.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Masks = Literal["union", "intersection", "first", "none"]
"""Which entries a merge keeps: those that any model has, all have, or the first one has; or all."""

_FEW = 0.01  # of the entries of a dense tensor may be 0 by accident
_EVERY, _SAMPLE = 61, 4096  # a prime, so that a sample meets every column of most matrices


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


def check_agreement(
    name: str, tensors: Sequence[Tensor], base: Tensor | None, masks: Masks | None
) -> None:
    """Require that weights of which many are 0 are 0 in the same places, unless masks are joined.

    Args:
        name: of the tensor.
        tensors: those of the models, or runs of their entries.
        base: that of the base, if the method uses it.
        masks: what is kept; None if nothing was said.

    Raises:
        InputError: they differ, or the base would fill entries that are 0 in all models.
    """
    if masks is not None or not is_weight(name) or not tensors[0].numel():
        return
    if all(map(_is_dense, tensors)):  # as most models are
        return
    zeros = [tensor == 0 for tensor in tensors]
    others = [*zeros, *([] if base is None else [base == 0])]
    for place, zero in enumerate(others):
        differ = int((zero != zeros[0]).sum())
        if differ:
            who = "the base" if place == len(zeros) else f"model {place}"
            raise InputError(
                f"tensor {name!r}: {who} must be 0 in the same places as model 0, which is pruned, "
                f"got {differ / zero.numel():.1%} of entries where one alone is; set masks: union, "
                "intersection or first, to say which weights are kept, or none to fill them"
            )


def _is_dense(tensor: Tensor) -> bool:
    """Whether at most a few entries are 0.

    If a sample of a large tensor has none, the others are not counted: that would take as long as
    many a merge of the tensor.
    """
    entries = tensor.reshape(-1)
    sample = entries[::_EVERY] if len(entries) >= _EVERY * _SAMPLE else entries
    if int(sample.count_nonzero()) == len(sample):
        return True
    return int(entries.count_nonzero()) >= (1 - _FEW) * len(entries)
