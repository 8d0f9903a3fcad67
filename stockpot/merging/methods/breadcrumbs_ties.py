"""Model breadcrumbs, then TIES's sign election (https://arxiv.org/abs/2312.06795)."""

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
    merge_agreeing,
)
from stockpot.merging.runs import Runs

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.methods.magnitude_cuts import Cut


@method("breadcrumbs_ties", is_elementwise=True, measure=measure_middle)
def breadcrumbs_ties(
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
    """Mask outliers and small entries of task vectors, and sum those that agree in sign.

    Args:
        tensors: M same-named tensors, one a model; one shape, float32 or float64.
        base: what they were fine-tuned from; same shape and dtype.
        coefficients: M numbers, applied after masking.
        density: share of entries kept in each task vector, in (0, 1]; at least one entry is.
        gamma: share of entries that are outliers, those of largest magnitude, in [0, 1); rounded
            down, and fewer where `density` needs them.
        scale: finite factor on the merged task vector.
        measured: where outliers and middle of each whole task vector end, where these are parts.
        start: position of the first entry of the part.

    Returns:
        The merged tensor; shape and dtype of the inputs. The base's entry stays where all are
        masked, and where the weighted sum is exactly 0.

    Raises:
        ValueError: an option is out of range.

    Source: the paper's masks, with TIES-Merging (https://arxiv.org/abs/2306.01708) from the
    election of signs on, as mergekit combines them. Differences from it are those of
    `breadcrumbs` and `ties`.
    """
    check_density("breadcrumbs_ties", density)
    check_gamma("breadcrumbs_ties", gamma)
    check_scale("breadcrumbs_ties", scale)
    options = {"density": density, "gamma": gamma}
    cuts = measured or measure_middle(Runs.of(tensors, base), [], options)
    masked = (
        keep_middle(tensor - base, own, start) for tensor, own in zip(tensors, cuts, strict=True)
    )
    return base + scale * merge_agreeing(masked, coefficients, normalize=False)


@method("breadcrumbs_ties_rows")
def breadcrumbs_ties_rows(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: float = 0.9,
    gamma: float = 0.01,
    scale: float = 1.0,
) -> Tensor:
    """Mask task vectors as `breadcrumbs_rows` does, and sum those that agree in sign.

    Args:
        tensors: M same-named tensors, one a model; one shape, float32 or float64. A row is the
            last dimension; of one dimension or none, the tensor.
        base: what they were fine-tuned from; same shape and dtype.
        coefficients: M numbers.
        density: share of entries kept in each row, in (0, 1]; at least one entry is.
        gamma: share of entries of a row that are outliers, in [0, 1); as in `breadcrumbs_ties`.
        scale: finite factor on the merged task vector.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: an option is out of range.

    Source: as `breadcrumbs_ties`, with the masks of `breadcrumbs_rows`.
    """
    check_density("breadcrumbs_ties_rows", density)
    check_gamma("breadcrumbs_ties_rows", gamma)
    check_scale("breadcrumbs_ties_rows", scale)
    masked = (keep_middle_of_rows(tensor - base, density, gamma) for tensor in tensors)
    return base + scale * merge_agreeing(masked, coefficients, normalize=False)
