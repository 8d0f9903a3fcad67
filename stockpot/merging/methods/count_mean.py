"""Averages over the models that have, or have trained, an entry."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.shares import positive_shares

_COUNTS = ("entries", "rows")


@method("count_mean")
def count_mean(
    tensors: Sequence[Tensor],
    coefficients: Sequence[float],
    base: Tensor | None = None,
    *,
    count: str = "entries",
) -> Tensor:
    """Average each entry over the models that take part in it.

    The plain mean divides by the number of all models: an entry that one of four models has would
    be a quarter as large.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        coefficients: M numbers of at least 0, not all 0.
        base: the tensor that they were fine-tuned from, for `rows`; same shape and dtype.
        count: `entries`: a model takes part in an entry that is not 0, that is, in its mask;
            `rows`: in a row, along the first axis, that differs from the base's, such as the
            embedding of a word or user that occurred in its data.

    Returns:
        The merged tensor; shape and dtype of the inputs. Entries in which no model takes part are
        0, rows are the base's.

    Raises:
        ValueError: an option or a coefficient is out of its range, or there is no base.

    Source: the masks are those of dynamic sparse learning (Wang et al. 2024); counting is an
    addition.
    """
    if count not in _COUNTS:
        raise ValueError(f"count_mean: count must be one of {[*_COUNTS]}, got {count!r}")
    if count == "rows" and base is None:
        raise ValueError("count_mean: needs a base to see which rows a model has trained, got none")
    parts = positive_shares("count_mean", coefficients)
    rest = torch.zeros_like(tensors[0]) if count == "entries" or base is None else base
    total = torch.zeros_like(tensors[0])
    weight = torch.zeros_like(tensors[0])
    for tensor, part in zip(tensors, parts, strict=True):
        takes_part = tensor != 0 if count == "entries" else _changed_rows(tensor, rest)
        weight += part * takes_part
        total += part * tensor.where(takes_part, 0)
    return (total / weight.where(weight > 0, 1)).where(weight > 0, rest)


def _changed_rows(tensor: Tensor, base: Tensor) -> Tensor:
    """Return which rows differ, for every entry of them."""
    differs = tensor != base
    if tensor.ndim < 2:
        return differs
    by_row = differs.flatten(1).any(dim=1)
    return by_row.view(-1, *[1] * (tensor.ndim - 1)).expand_as(tensor)
