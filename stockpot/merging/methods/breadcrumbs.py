"""Model breadcrumbs (Davari & Belilovsky 2024, https://arxiv.org/abs/2312.06795)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stockpot.merging.method import method
from stockpot.merging.methods.task_vectors import (
    check_density,
    check_gamma,
    check_scale,
    keep_middle,
    keep_middle_of_rows,
    measure_middle,
    sum_weighted,
)
from stockpot.merging.runs import Runs

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.methods.magnitude_cuts import Cut


@method("breadcrumbs", is_elementwise=True, measure=measure_middle)
def breadcrumbs(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: float = 0.9,
    gamma: float = 0.01,
    scale: float = 1.0,
    measured: Sequence[Sequence[Cut]] | None = None,
    start: int = 0,
) -> Tensor:
    """Add task vectors, without their outliers and their smallest entries, to the base.

    Args:
        tensors: M same-named tensors, one a model; one shape, float32 or float64.
        base: what they were fine-tuned from; same shape and dtype.
        coefficients: M numbers; 1 each is the paper's method.
        density: share of entries kept in each task vector, in (0, 1]; at least one entry is.
        gamma: share of entries that are outliers, those of largest magnitude, in [0, 1); rounded
            down, and fewer where `density` needs them.
        scale: finite factor on the sum (the paper's alpha).
        measured: where outliers and middle of each whole task vector end, where these are parts.
        start: position of the first entry of the part.

    Returns:
        The merged tensor; shape and dtype of the inputs. Density 1 is task arithmetic.

    Raises:
        ValueError: an option is out of range.

    Source: the paper's masks; options and masks a tensor are those of mergekit, the authors' code
    has masks a row. mergekit drops all entries of a tensor so small that it has no outlier, which
    sets biases back to the base; we keep the others.
    """
    check_density("breadcrumbs", density)
    check_gamma("breadcrumbs", gamma)
    check_scale("breadcrumbs", scale)
    options = {"density": density, "gamma": gamma}
    cuts = measured or measure_middle(Runs.of(tensors, base), [], options)
    masked = (
        keep_middle(tensor - base, own, start) for tensor, own in zip(tensors, cuts, strict=True)
    )
    return base + scale * sum_weighted(masked, coefficients)


@method("breadcrumbs_rows")
def breadcrumbs_rows(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: float = 0.9,
    gamma: float = 0.01,
    scale: float = 1.0,
) -> Tensor:
    """Add task vectors, with outliers and smallest entries masked row by row, to the base.

    Args:
        tensors: M same-named tensors, one a model; one shape, float32 or float64. A row is the
            last dimension; of one dimension or none, the tensor.
        base: what they were fine-tuned from; same shape and dtype.
        coefficients: M numbers.
        density: share of entries kept in each row, in (0, 1]; at least one entry is.
        gamma: share of entries of a row that are outliers, in [0, 1); as in `breadcrumbs`.
        scale: finite factor on the sum (the paper's alpha).

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: an option is out of range.

    Source: the paper's masks, a row at a time as in the authors' code, which counts the largest
    entries by rows too. Of a row so short that `gamma` makes up no entry none is an outlier.
    """
    check_density("breadcrumbs_rows", density)
    check_gamma("breadcrumbs_rows", gamma)
    check_scale("breadcrumbs_rows", scale)
    masked = (keep_middle_of_rows(tensor - base, density, gamma) for tensor in tensors)
    return base + scale * sum_weighted(masked, coefficients)
