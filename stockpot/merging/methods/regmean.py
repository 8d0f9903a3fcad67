"""RegMean (Jin et al. 2023, https://arxiv.org/abs/2212.09849)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.shares import positive_shares
from stockpot.merging.search_ranges import Share


@method("regmean")
def regmean(
    tensors: Sequence[Tensor],
    grams: Sequence[Tensor | None],
    coefficients: Sequence[float],
    *,
    reduce: Share = 0.9,
    ridge: float = 1e-6,
) -> Tensor:
    """Find the layer whose outputs are nearest to those of each model on that model's inputs.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        grams: for each model, in the order of `tensors`, the mean of x times x transposed over
            the layer's inputs x, float64: (G, D, D), where a tensor is G groups of outputs with
            D weights each; or its diagonal (G, D). None for other tensors,
            which are averaged.
        coefficients: M numbers of at least 0, in the order of `tensors`, not all 0.
        reduce: factor in [0, 1] on off-diagonal entries (the paper's alpha); with 0 each input is
            weighted independently.
        ridge: added to the diagonal, as a fraction of its mean; finite and at least 0.

    Returns:
        The merged tensor; shape and dtype of the inputs. Inputs that are 0 for every model get
        the mean weighted by the coefficients.

    Raises:
        ValueError: an option or a coefficient is out of its range, all coefficients are 0, or
            the matrices are singular and `ridge` is too small.

    Source: the paper's closed form for linear layers, solved in float64 by Cholesky decomposition
    for the difference from the mean, so that the ridge (not in the paper) shrinks to the mean, not
    to 0.
    """
    return closest_outputs("regmean", tensors, grams, coefficients, reduce=reduce, ridge=ridge)


def closest_outputs(
    method: str,
    tensors: Sequence[Tensor],
    grams: Sequence[Tensor | None],
    coefficients: Sequence[float],
    *,
    reduce: float,
    ridge: float,
) -> Tensor:
    """Solve RegMean's least squares; arguments are those of `regmean`, and errors name `method`.

    Raises:
        ValueError: as `regmean`.
    """
    if not 0 <= reduce <= 1:
        raise ValueError(f"{method}: reduce must be in [0, 1], got {reduce}")
    if not 0 <= ridge < float("inf"):
        raise ValueError(f"{method}: ridge must be finite and at least 0, got {ridge}")
    parts = positive_shares(method, coefficients)
    known = [gram.to(tensors[0].device) for gram in grams if gram is not None]
    if len(known) < len(tensors) or not tensors[0].numel():
        return linear(tensors, parts)
    num_groups, num_inputs = known[0].shape[:2]
    matrices = [t.double().reshape(num_groups, -1, num_inputs).mT for t in tensors]  # (G, D, out)
    mean = linear(matrices, parts)
    total = torch.zeros_like(known[0])
    pull = torch.zeros_like(mean)
    for matrix, gram, part in zip(matrices, known, parts, strict=True):
        weight = part * _reduced(gram, reduce)
        total += weight
        pull += _times(weight, matrix - mean)
    merged = mean + _solved(method, _raised(total, ridge), pull, ridge)
    return merged.mT.reshape(tensors[0].shape).to(tensors[0].dtype)


def _reduced(gram: Tensor, factor: float) -> Tensor:
    """Multiply the off-diagonal entries of (G, D, D); a diagonal (G, D) is returned unchanged."""
    if gram.ndim == 2:
        return gram
    diagonal = torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))
    return factor * gram + (1 - factor) * diagonal


def _times(gram: Tensor, matrix: Tensor) -> Tensor:
    return gram @ matrix if gram.ndim == 3 else gram.unsqueeze(-1) * matrix


def _raised(gram: Tensor, ridge: float) -> Tensor:
    """Add to the diagonal of each group a fraction of its mean, or of 1 if that is 0."""
    diagonal = gram if gram.ndim == 2 else gram.diagonal(dim1=-2, dim2=-1)
    mean = diagonal.mean(dim=-1, keepdim=True)  # (G, 1)
    added = ridge * mean.where(mean > 0, 1).expand(diagonal.shape)
    return gram + (added if gram.ndim == 2 else torch.diag_embed(added))


def _solved(method: str, gram: Tensor, matrix: Tensor, ridge: float) -> Tensor:
    """Return the inverse of the symmetric (G, D, D), or of the diagonal (G, D), times (G, D, K)."""
    if gram.ndim == 2:
        factor, is_singular = gram.unsqueeze(-1), bool((gram <= 0).any())
    else:
        factor, info = torch.linalg.cholesky_ex(gram)
        is_singular = bool(info.any())
    if is_singular:
        raise ValueError(
            f"{method}: ridge must be larger where inputs depend on each other, got {ridge}"
        )
    return matrix / factor if gram.ndim == 2 else torch.cholesky_solve(matrix, factor)
