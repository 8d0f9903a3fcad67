"""Averages over the models that have, or have trained, an entry."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.linalg import vector_norm

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
    tolerance: float = 0.0,
) -> Tensor:
    """Average each entry over the models that take part in it.

    The plain mean divides by the number of all models: an entry that one of four models has would
    be a quarter as large.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        coefficients: M numbers of at least 0, not all 0.
        base: the tensor that they were fine-tuned from, for `rows`; same shape and dtype.
        count: `entries`: a model takes part in an entry that is not 0, that is, in its mask;
            `rows`: in the entries, which are not 0, of a row along the first axis that it has
            trained, such as the embedding of a word or user that occurred in its data. A row is
            trained if an entry that is not 0 differs from the base's: what is pruned is not.
        tolerance: of `rows`, at least 0: a row is trained if its distance from the base's is
            above this share of the length of the base's row. Weight decay changes all rows a
            little: by about the sum of learning rate * decay over the steps.

    Returns:
        The merged tensor; shape and dtype of the inputs. Entries in which no model takes part are
        0; rows that no model has trained are the base's.

    Raises:
        ValueError: an option or a coefficient is out of its range, or there is no base.

    Source: the masks are those of dynamic sparse learning (Wang et al. 2024); counting is an
    addition.
    """
    if count not in _COUNTS:
        raise ValueError(f"count_mean: count must be one of {[*_COUNTS]}, got {count!r}")
    if not tolerance >= 0:
        raise ValueError(f"count_mean: tolerance must be at least 0, got {tolerance}")
    if count == "rows" and base is None:
        raise ValueError("count_mean: needs a base to see which rows a model has trained, got none")
    parts = positive_shares("count_mean", coefficients)
    takes_part = [tensor != 0 for tensor in tensors]
    rest = torch.zeros_like(tensors[0])
    if count == "rows" and base is not None:
        trained = [_trained_rows(tensor, base, tolerance) for tensor in tensors]
        takes_part = [live & rows for live, rows in zip(takes_part, trained, strict=True)]
        rest = base.where(~torch.stack(trained).any(dim=0), 0)
    total = torch.zeros_like(tensors[0])
    weight = torch.zeros_like(tensors[0])
    for tensor, own, part in zip(tensors, takes_part, parts, strict=True):
        weight += part * own
        total += part * tensor.where(own, 0)
    return (total / weight.where(weight > 0, 1)).where(weight > 0, rest)


def _trained_rows(tensor: Tensor, base: Tensor, tolerance: float) -> Tensor:
    """Return which rows a model has trained, for every entry of them."""
    gap = (tensor - base).where(tensor != 0, 0)
    axes = tuple(range(1, tensor.ndim))
    moved, length = (
        one.double().abs() if not axes else vector_norm(one.double(), dim=axes, keepdim=True)
        for one in (gap, base)
    )  # in float64, where no square of a small gap is 0
    return (moved > tolerance * length).expand_as(tensor)
