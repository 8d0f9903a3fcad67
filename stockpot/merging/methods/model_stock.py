"""Model Stock (Jang et al. 2024, https://arxiv.org/abs/2403.19522)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from stockpot.merging.draws import Draws
from stockpot.merging.method import method
from stockpot.merging.methods.inner_products import gram_of_runs, row_dots
from stockpot.merging.runs import Runs


def _filter_size(shape: Sequence[int], options: Mapping[str, Any]) -> int | None:
    return prod(shape[1:]) if options["filter_wise"] and len(shape) > 1 else None


def measure_products(
    runs: Runs, _draws: Sequence[Draws], _options: Mapping[str, Any]
) -> Tensor | None:
    """Return the inner products (M, M) of the task vectors; None if rows have their own."""
    return gram_of_runs(runs) if runs.row is None else None


@method(
    "model_stock",
    num_models=(2, None),
    is_elementwise=True,
    row_length=_filter_size,
    measure=measure_products,
)
def model_stock(
    tensors: Sequence[Tensor],
    base: Tensor,
    *,
    filter_wise: bool = False,
    measured: Tensor | None = None,
) -> Tensor:
    """Interpolate from the base to the mean of the models; further for smaller angles between them.

    With c the mean cosine over pairs of task vectors, the weight of the mean is
    t = M c / (1 + (M - 1) c), and that of the base 1 - t.

    Args:
        tensors: M >= 2 same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        filter_wise: whether the angle is computed per row (first dimension) instead of per tensor.
            A tensor of one dimension is one row.
        measured: inner products (M, M) of the whole task vectors, where the tensors are parts of
            larger ones.

    Returns:
        The merged tensor; shape and dtype of the inputs. The base if no model differs from it.

    Source: the interpolation ratio for M models, layer-wise as in the paper. For c < 0
    the result is the base: the ratio would be negative, and unbounded at c = -1 / (M - 1). Cosines
    are in float64; mergekit bounds products of norms from below by 1e-6, so that short task
    vectors count as orthogonal.
    """
    by_row = filter_wise and base.ndim > 1
    total = tensors[0] - base
    for tensor in tensors[1:]:
        total += tensor - base
    if by_row:
        products = _products_of_rows([(t - base).flatten(1) for t in tensors])
    else:
        products = gram_of_runs(Runs.of(tensors, base)) if measured is None else measured
    factors = (_share(products) / len(tensors)).to(base.dtype)  # (R,) or ()
    return base + total.mul_(factors.view(-1, *[1] * (base.ndim - 1)) if by_row else factors)


def _products_of_rows(rows: Sequence[Tensor]) -> Tensor:
    """Return the inner products (R, M, M) of each row of M matrices (R, C) with those of others."""
    return torch.stack(
        [torch.stack([row_dots(ours, theirs) for theirs in rows], dim=-1) for ours in rows], dim=-1
    )


def _share(products: Tensor) -> Tensor:
    """Return the weight of the mean, from inner products (..., M, M) of task vectors.

    A task vector of length 0 is orthogonal to all.
    """
    count = products.shape[-1]
    lengths = products.diagonal(dim1=-2, dim2=-1).sqrt()
    lengths = lengths.where(lengths > 0, torch.inf)
    cosines = products / lengths[..., None] / lengths[..., None, :]
    of_pairs = cosines.sum(dim=(-2, -1)) - cosines.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    cosine = (of_pairs / (count * (count - 1))).clamp(0, 1)
    return count * cosine / (1 + (count - 1) * cosine)
