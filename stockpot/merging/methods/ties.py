"""TIES-Merging (Yadav et al. 2023, https://arxiv.org/abs/2306.01708)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from stockpot.merging.draws import Draws
from stockpot.merging.measurements import depends_on
from stockpot.merging.method import method
from stockpot.merging.methods.magnitude_cuts import Cut, find_cuts, keep_largest, num_kept
from stockpot.merging.methods.task_vectors import (
    check_choice,
    check_density,
    check_scale,
    merge_agreeing,
)
from stockpot.merging.per_model import each
from stockpot.merging.runs import Runs
from stockpot.merging.search_ranges import Density, Scale
from stockpot.merging.whole_model import Scope


@depends_on("density", of_each=True)
def measure_largest(runs: Runs, _draws: Sequence[Draws], options: Mapping[str, Any]) -> list[Cut]:
    """Return the cut below the fraction `density` of largest entries of each task vector."""
    densities = each(options["density"], runs.num_models)
    return [cut for (cut,) in find_cuts(runs, [[num_kept(runs.size, own)] for own in densities])]


@method("ties", is_elementwise=True, measure=measure_largest)
def ties(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: Density = 0.2,
    scale: Scale = 1.0,
    normalize: bool = True,
    scope: Scope = "tensor",
    measured: Sequence[Cut] | None = None,
    start: int = 0,
) -> Tensor:
    """Average task vectors, trimmed to their largest entries, over those that agree in sign.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        coefficients: M numbers, applied after trimming; equal ones give the paper's method.
        density: fraction of entries kept in each task vector, in [0, 1]; at least one is kept,
            unless it is 0, which leaves a model out.
        scale: finite factor on the merged task vector (the paper's lambda).
        normalize: whether agreeing entries are averaged (the paper) or summed.
        scope: the density is that of each `tensor`, or of the whole `model`, which is the paper's
            method and reads all models once more before merging.
        measured: the cuts of the whole task vectors, where the tensors are parts of larger ones.
        start: position of the part's first entry.

    Returns:
        The merged tensor; shape and dtype of the inputs. Equal to the base where all entries
        are trimmed, and where their weighted sum is exactly 0.

    Raises:
        ValueError: an option is out of range.

    Source: Algorithm 1. The paper trims over all tensors of a model together; the default here is
    to trim each tensor, as mergekit does, so that every tensor keeps entries and models are read
    once. The density is exact: of equal entries, the first are kept. A sum of 0 elects no sign;
    mergekit elects the positive one there, and the authors' code the one that is more frequent
    in the model. Averages are over magnitudes of coefficients, see `merge_agreeing`.
    """
    densities = check_density("ties", density, len(tensors))
    check_scale("ties", scale)
    check_choice("ties", "scope", scope, Scope)
    cuts = measured or measure_largest(Runs.of(tensors, base), [], {"density": densities})
    trimmed = (
        keep_largest(tensor - base, cut, start) for tensor, cut in zip(tensors, cuts, strict=True)
    )
    return base + scale * merge_agreeing(trimmed, coefficients, normalize=normalize)
