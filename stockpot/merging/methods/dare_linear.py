"""DARE, drop and rescale, then a sum (Yu et al. 2024, https://arxiv.org/abs/2311.03099)."""

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
    normalized,
    sum_weighted,
)
from stockpot.merging.runs import Runs

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.draws import Draws


@method("dare_linear", is_elementwise=True, measure=measure_l1)
def dare_linear(
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
    """Add task vectors, of which random entries are dropped and the others rescaled, to the base.

    Args:
        tensors: M same-named tensors, one a model; one shape, float32 or float64.
        base: what they were fine-tuned from; same shape and dtype.
        coefficients: M numbers; 1 each is the paper's method.
        density: probability that an entry is kept, in (0, 1].
        rescale: `inverse` divides kept entries by the density; `l1` multiplies them so that the
            sum of magnitudes stays; `none` leaves them.
        scale: finite factor on the sum (the paper's lambda).
        normalize: whether coefficients are divided by their sum.
        draws: random numbers, M.
        measured: what `l1` multiplies each by, where these are parts.

    Returns:
        The merged tensor; shape and dtype of the inputs. Density 1 is task arithmetic.

    Raises:
        ValueError: an option is out of range, or coefficients to normalise sum to 0.

    Source: the paper's drop and rescale, with task arithmetic. mergekit rescales by `l1` only;
    ours is the paper's by default, as its expectation is the task vector itself, which on small
    tensors the other's is not.
    """
    check_density("dare_linear", density)
    check_rescale("dare_linear", rescale)
    check_scale("dare_linear", scale)
    if normalize:
        coefficients = normalized("dare_linear", coefficients)
    options = {"density": density, "rescale": rescale}
    ratios = measured or measure_l1(Runs.of(tensors, base), draws, options)
    dropped = (
        drop_and_rescale(tensor - base, density, own, rescale, ratio)
        for tensor, own, ratio in zip(tensors, draws, ratios, strict=True)
    )
    return base + scale * sum_weighted(dropped, coefficients)
