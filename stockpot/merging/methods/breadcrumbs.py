"""Model breadcrumbs (Davari & Belilovsky 2024, https://arxiv.org/abs/2312.06795)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.magnitude_cuts import Cut
from stockpot.merging.methods.task_vectors import (
    check_density,
    check_scale,
    keep_middle,
    keep_middle_of_rows,
    measure_middle,
    merge_agreeing,
    normalized,
    sum_weighted,
)
from stockpot.merging.per_model import PerModel, each
from stockpot.merging.runs import Runs
from stockpot.merging.search_ranges import Density, Scale, SearchRange


@method("breadcrumbs", is_elementwise=True, measure=measure_middle)
def breadcrumbs(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: Density = 0.9,
    gamma: Annotated[PerModel, SearchRange(0.0, 0.1)] = 0.01,
    scale: Scale = 1.0,
    normalize: bool = False,
    measured: Sequence[Sequence[Cut]] | None = None,
    start: int = 0,
) -> Tensor:
    """Mask outliers and smallest entries of task vectors, and add the sum to the base.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        coefficients: M numbers; 1 each is the paper's method.
        density: fraction of entries kept in each task vector, in [0, 1]; at least one is kept,
            unless it is 0, which leaves a model out.
        gamma: fraction of entries of largest magnitude, which are masked as outliers, in [0, 1);
            rounded down, and fewer where `density` needs them.
        scale: finite factor on the sum (the paper's alpha).
        normalize: whether coefficients are divided by their sum.
        measured: the bounds of outliers and of the middle in each whole task vector, where the
            tensors are parts of larger ones.
        start: position of the part's first entry.

    Returns:
        The merged tensor; shape and dtype of the inputs. Density 1 is task arithmetic.

    Raises:
        ValueError: an option is out of range, or coefficients to normalise sum to 0.

    Source: the paper's masks. Options and masks per tensor are those of mergekit; the authors'
    code masks per row. mergekit drops all entries of a tensor that is too small to have an
    outlier, which resets biases to the base; here they are kept.
    """
    check_scale("breadcrumbs", scale)
    densities, gammas = _checked_shares("breadcrumbs", density, gamma, len(tensors))
    options = {"density": densities, "gamma": gammas}
    cuts = measured or measure_middle(Runs.of(tensors, base), [], options)
    masked = _masked(tensors, base, cuts, start)
    if normalize:
        coefficients = normalized("breadcrumbs", coefficients)
    return base + scale * sum_weighted(masked, coefficients)


@method("breadcrumbs_rows")
def breadcrumbs_rows(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: Density = 0.9,
    gamma: Annotated[PerModel, SearchRange(0.0, 0.1)] = 0.01,
    scale: Scale = 1.0,
    normalize: bool = False,
) -> Tensor:
    """Mask outliers and smallest entries in each row of task vectors, and add the sum to the base.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64. A row is the
            last dimension; a tensor with at most one dimension is one row.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        coefficients: M numbers.
        density: fraction of entries kept in each row, in [0, 1]; at least one is kept, unless it
            is 0.
        gamma: fraction of entries of a row that are outliers, in [0, 1); as in `breadcrumbs`.
        scale: finite factor on the sum (the paper's alpha).
        normalize: whether coefficients are divided by their sum.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: an option is out of range, or coefficients to normalise sum to 0.

    Source: the paper's masks per row, as in the authors' code, which also counts the largest
    entries per row. A row that is too short for `gamma` has no outlier.
    """
    check_scale("breadcrumbs_rows", scale)
    shares = _checked_shares("breadcrumbs_rows", density, gamma, len(tensors))
    masked = (
        keep_middle_of_rows(tensor - base, *own)
        for tensor, *own in zip(tensors, *shares, strict=True)
    )
    if normalize:
        coefficients = normalized("breadcrumbs_rows", coefficients)
    return base + scale * sum_weighted(masked, coefficients)


@method("breadcrumbs_ties", is_elementwise=True, measure=measure_middle)
def breadcrumbs_ties(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: Density = 0.9,
    gamma: Annotated[PerModel, SearchRange(0.0, 0.1)] = 0.01,
    scale: Scale = 1.0,
    normalize: bool = False,
    measured: Sequence[Sequence[Cut]] | None = None,
    start: int = 0,
) -> Tensor:
    """Mask outliers and smallest entries of task vectors, and sum those that agree in sign.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        coefficients: M numbers, applied after masking.
        density: as in `breadcrumbs`.
        gamma: as in `breadcrumbs`.
        scale: finite factor on the merged task vector.
        normalize: whether agreeing entries are averaged instead of summed.
        measured: as in `breadcrumbs`.
        start: as in `breadcrumbs`.

    Returns:
        The merged tensor; shape and dtype of the inputs. Equal to the base where all entries are
        masked, and where their weighted sum is exactly 0.

    Raises:
        ValueError: an option is out of range.

    Source: the paper's masks, with TIES-Merging (https://arxiv.org/abs/2306.01708) from the
    election of signs on, as mergekit combines them. Differences from it are those of
    `breadcrumbs` and `ties`.
    """
    check_scale("breadcrumbs_ties", scale)
    densities, gammas = _checked_shares("breadcrumbs_ties", density, gamma, len(tensors))
    options = {"density": densities, "gamma": gammas}
    cuts = measured or measure_middle(Runs.of(tensors, base), [], options)
    masked = _masked(tensors, base, cuts, start)
    return base + scale * merge_agreeing(masked, coefficients, normalize=normalize)


@method("breadcrumbs_ties_rows")
def breadcrumbs_ties_rows(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: Density = 0.9,
    gamma: Annotated[PerModel, SearchRange(0.0, 0.1)] = 0.01,
    scale: Scale = 1.0,
    normalize: bool = False,
) -> Tensor:
    """Mask the rows of task vectors as `breadcrumbs_rows` does, and sum those that agree in sign.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        coefficients: M numbers, applied after masking.
        density: as in `breadcrumbs_rows`.
        gamma: as in `breadcrumbs_rows`.
        scale: finite factor on the merged task vector.
        normalize: whether agreeing entries are averaged instead of summed.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: an option is out of range.

    Source: as `breadcrumbs_ties`, with the masks of `breadcrumbs_rows`.
    """
    check_scale("breadcrumbs_ties_rows", scale)
    shares = _checked_shares("breadcrumbs_ties_rows", density, gamma, len(tensors))
    masked = (
        keep_middle_of_rows(tensor - base, *own)
        for tensor, *own in zip(tensors, *shares, strict=True)
    )
    return base + scale * merge_agreeing(masked, coefficients, normalize=normalize)


def _checked_shares(
    name: str, density: PerModel, gamma: PerModel, num_models: int
) -> tuple[list[float], list[float]]:
    """Return the density and the gamma of each model."""
    for own in (gammas := each(gamma, num_models)):
        if not 0 <= own < 1:
            raise ValueError(f"{name}: gamma must be in [0, 1), got {own}")
    return check_density(name, density, num_models), gammas


def _masked(
    tensors: Sequence[Tensor], base: Tensor, cuts: Sequence[Sequence[Cut]], start: int
) -> Iterator[Tensor]:
    """Yield the masked task vectors."""
    for tensor, own in zip(tensors, cuts, strict=True):
        yield keep_middle(tensor - base, own, start)
