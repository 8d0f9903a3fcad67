"""The merge of AdaMerging++ (Yang et al. 2024, https://arxiv.org/abs/2310.02575)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.magnitude_cuts import Cut, keep_largest
from stockpot.merging.methods.task_vectors import (
    check_choice,
    check_density,
    check_scale,
    sum_weighted,
)
from stockpot.merging.methods.ties import measure_largest
from stockpot.merging.runs import Runs
from stockpot.merging.search_ranges import Density, Scale
from stockpot.merging.whole_model import Scope


@method("elected_sum", is_elementwise=True, measure=measure_largest)
def elected_sum(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: Density = 0.2,
    scale: Scale = 1.0,
    scope: Scope = "tensor",
    measured: Sequence[Cut] | None = None,
    start: int = 0,
) -> Tensor:
    """Sum task vectors, trimmed as by TIES and without entries against the elected sign.

    All models have equal votes: unlike in `ties`, coefficients are applied after the election, so
    that the sum is linear in them and they can be fitted by gradient.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        coefficients: M numbers, applied after the election; a model with 0 still votes.
        density: fraction of entries kept in each task vector, in [0, 1], as in `ties`.
        scale: finite factor on the sum.
        scope: as in `ties`.
        measured: the cuts of the whole task vectors, where the tensors are parts of larger ones.
        start: position of the part's first entry.

    Returns:
        The merged tensor; shape and dtype of the inputs. Equal to the base where all entries
        are trimmed, and where their sum is exactly 0.

    Raises:
        ValueError: an option is out of range.

    Source: section 3.3 (AdaMerging++): the operation Phi is TIES-Merging's trimming and election,
    in the authors' code over the whole model. Differences are those of `ties`.
    """
    densities = check_density("elected_sum", density, len(tensors))
    check_scale("elected_sum", scale)
    check_choice("elected_sum", "scope", scope, Scope)
    cuts = measured or measure_largest(Runs.of(tensors, base), [], {"density": densities})
    trimmed = [
        keep_largest(tensor - base, cut, start) for tensor, cut in zip(tensors, cuts, strict=True)
    ]
    elected = sum_weighted(trimmed, [1.0] * len(trimmed)).sign_()
    agreeing = (vector.where(vector * elected > 0, 0) for vector in trimmed)
    return base + scale * sum_weighted(agreeing, coefficients)
