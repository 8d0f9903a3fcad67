"""Localize-and-Stitch (He et al. 2025, https://arxiv.org/abs/2408.13656)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.magnitude_cuts import Cut, keep_largest
from stockpot.merging.methods.shares import positive_shares
from stockpot.merging.methods.task_vectors import check_choice, check_density
from stockpot.merging.methods.ties import measure_largest
from stockpot.merging.per_model import PerModel
from stockpot.merging.runs import Runs
from stockpot.merging.search_ranges import SearchRange
from stockpot.merging.whole_model import Scope


@method("localize_and_stitch")
def localize_and_stitch(
    tensors: Sequence[Tensor],
    base: Tensor,
    localized: Sequence[Tensor | None],
    coefficients: Sequence[float],
) -> Tensor:
    """Add the entries of task vectors in which a mask says that a model's skill lies.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        localized: each model's mask, in the order of `tensors`; bool, of their shape. None for
            tensors that are not trained, which get the mean of the task vectors.
        coefficients: M numbers of at least 0, in the order of `tensors`, not all 0; equal ones are
            the paper's method.

    Returns:
        The merged tensor; shape and dtype of the inputs. Where masks overlap, the mean of these
        task vectors, weighted by the coefficients; outside all masks, the base.

    Raises:
        ValueError: a coefficient is negative, or all are 0.

    Source: the paper's stitching. How the masks are learned is described in
    `stockpot.soups.preparation.localization`.
    """
    parts = positive_shares("localize_and_stitch", coefficients)
    known = [mask for mask in localized if mask is not None]
    vectors = [tensor - base for tensor in tensors]
    if len(known) < len(tensors):
        known = [torch.ones_like(base, dtype=torch.bool)] * len(tensors)
    return base + _stitched(vectors, [mask.to(base.device) for mask in known], parts)


@method("localize_and_stitch_dataless", is_elementwise=True, measure=measure_largest)
def localize_and_stitch_dataless(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: Annotated[PerModel, SearchRange(0.01, 0.5, is_log=True)] = 0.05,
    scope: Scope = "model",
    measured: Sequence[Cut] | None = None,
    start: int = 0,
) -> Tensor:
    """Add the largest entries of the task vectors; where those of several overlap, their mean.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        coefficients: M numbers of at least 0, in the order of `tensors`, not all 0; equal ones are
            the paper's method.
        density: fraction of entries kept in each task vector, in [0, 1]; at least one is kept,
            unless it is 0, which leaves a model out.
        scope: the density is that of the whole `model`, or of each `tensor`.
        measured: the cuts of the whole task vectors, where the tensors are parts of larger ones.
        start: position of the part's first entry.

    Returns:
        The merged tensor; shape and dtype of the inputs. Where no model keeps an entry, the base.

    Raises:
        ValueError: an option or a coefficient is out of its range.

    Source: the paper's localization without data, which keeps 5 % of the entries. Of equal
    magnitudes, the first are kept, so that the density is exact.
    """
    name = "localize_and_stitch_dataless"
    densities = check_density(name, density, len(tensors))
    check_choice(name, "scope", scope, Scope)
    parts = positive_shares(name, coefficients)
    cuts = measured or measure_largest(Runs.of(tensors, base), [], {"density": densities})
    kept = [
        keep_largest(tensor - base, cut, start) for tensor, cut in zip(tensors, cuts, strict=True)
    ]
    return base + _stitched(kept, [vector != 0 for vector in kept], parts)


def _stitched(vectors: Sequence[Tensor], masks: Sequence[Tensor], parts: Sequence[float]) -> Tensor:
    """Return the weighted mean of the task vectors whose masks hold an entry; 0 where none does."""
    total = torch.zeros_like(vectors[0])
    weight = torch.zeros_like(vectors[0])
    for vector, mask, part in zip(vectors, masks, parts, strict=True):
        weight += part * mask
        total += part * vector.where(mask, 0)
    return total / weight.where(weight > 0, 1)
