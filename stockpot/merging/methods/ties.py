"""TIES-Merging (Yadav et al. 2023, https://arxiv.org/abs/2306.01708)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stockpot.merging.method import method
from stockpot.merging.methods.magnitude_cuts import Cut, find_cuts, keep_largest, num_kept
from stockpot.merging.methods.task_vectors import (
    check_density,
    check_scale,
    merge_agreeing,
)
from stockpot.merging.runs import Runs
from stockpot.merging.whole_model import Scope, check_scope

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.draws import Draws


def measure_largest(runs: Runs, _draws: Sequence[Draws], options: Mapping[str, Any]) -> list[Cut]:
    """Return where the share `density` of largest entries of each task vector ends."""
    return [cut for (cut,) in find_cuts(runs, [num_kept(runs.size, options["density"])])]


@method("ties", is_elementwise=True, measure=measure_largest)
def ties(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: float = 0.2,
    scale: float = 1.0,
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
        density: fraction of entries kept in each task vector, in (0, 1]; at least one is kept.
        scale: finite factor on the merged task vector (the paper's lambda).
        normalize: whether agreeing entries are averaged (the paper) or summed.
        scope: of which the density is kept: of each `tensor`, or of the whole `model`, which is
            the paper's method and reads all models once more before it merges.
        measured: where the largest entries of each whole task vector end, where these are parts of
            a tensor or of a model.
        start: position of the part's first entry.

    Returns:
        The merged tensor; shape and dtype of the inputs. Equal to the base where all entries
        are trimmed, and where their weighted sum is exactly 0.

    Raises:
        ValueError: an option is out of range.

    Source: Algorithm 1. The paper trims over all tensors of a model at once; by default we trim
    each on its own, as mergekit does, so that every tensor keeps a share and models are read
    once. Exactly the density is kept, of equal entries the first. A sum of 0 elects no sign,
    where mergekit elects the positive one and the authors' code the more frequent one over the
    model: neither entry is better than its opposite. Averages are over magnitudes of
    coefficients, see `merge_agreeing`.
    """
    check_density("ties", density)
    check_scale("ties", scale)
    check_scope("ties", scope)
    cuts = measured or measure_largest(Runs.of(tensors, base), [], {"density": density})
    trimmed = (
        keep_largest(tensor - base, cut, start) for tensor, cut in zip(tensors, cuts, strict=True)
    )
    return base + scale * merge_agreeing(trimmed, coefficients, normalize=normalize)
