"""DARE, drop and rescale, then TIES's sign election (https://arxiv.org/abs/2311.03099)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stockpot.merging.method import method
from stockpot.merging.methods.task_vectors import (
    Rescale,
    check_density,
    check_rescale,
    check_scale,
    drop_and_rescale,
    measure_l1,
    merge_agreeing,
)
from stockpot.merging.runs import Runs

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.draws import Draws


@method("dare_ties", is_elementwise=True, measure=measure_l1)
def dare_ties(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: float = 0.5,
    rescale: Rescale = "inverse",
    scale: float = 1.0,
    normalize: bool = False,
    draws: Sequence[Draws],
    measured: Sequence[float | None] | None = None,
) -> Tensor:
    """Drop random entries of task vectors, rescale the others, and sum those that agree in sign.

    Args:
        tensors: M same-named tensors, one a model; one shape, float32 or float64.
        base: what they were fine-tuned from; same shape and dtype.
        coefficients: M numbers, applied after dropping.
        density: probability that an entry is kept, in (0, 1].
        rescale: `inverse` divides kept entries by the density; `l1` multiplies them so that the
            sum of magnitudes stays; `none` leaves them.
        scale: finite factor on the merged task vector (the paper's lambda).
        normalize: whether agreeing entries are averaged instead of summed.
        draws: random numbers, M.
        measured: what `l1` multiplies each by, where these are parts.

    Returns:
        The merged tensor; shape and dtype of the inputs. The base's entry stays where all are
        dropped, and where the weighted sum is exactly 0.

    Raises:
        ValueError: an option is out of range.

    Source: the paper's drop and rescale, with TIES-Merging (https://arxiv.org/abs/2306.01708)
    from the election of signs on. Differences from mergekit are those of `dare_linear` and
    `ties`.
    """
    check_density("dare_ties", density)
    check_rescale("dare_ties", rescale)
    check_scale("dare_ties", scale)
    options = {"density": density, "rescale": rescale}
    ratios = measured or measure_l1(Runs.of(tensors, base), draws, options)
    dropped = (
        drop_and_rescale(tensor - base, density, own, rescale, ratio)
        for tensor, own, ratio in zip(tensors, draws, ratios, strict=True)
    )
    return base + scale * merge_agreeing(dropped, coefficients, normalize=normalize)
