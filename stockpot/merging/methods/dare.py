"""DARE, drop and rescale (Yu et al. 2024, https://arxiv.org/abs/2311.03099)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from stockpot.merging.draws import Draws
from stockpot.merging.method import method
from stockpot.merging.methods.task_vectors import (
    Rescale,
    check_choice,
    check_density,
    check_scale,
    drop_and_rescale,
    measure_l1,
    merge_agreeing,
    normalized,
    sum_weighted,
)
from stockpot.merging.per_model import PerModel
from stockpot.merging.runs import Runs
from stockpot.merging.search_ranges import Density, Scale


@method("dare_linear", is_elementwise=True, measure=measure_l1)
def dare_linear(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: Density = 0.5,
    rescale: Rescale = "inverse",
    scale: Scale = 1.0,
    normalize: bool = False,
    draws: Sequence[Draws],
    measured: Sequence[float | None] | None = None,
) -> Tensor:
    """Drop random entries of task vectors, rescale the others, and add the sum to the base.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        coefficients: M numbers; 1 each is the paper's method.
        density: probability of keeping an entry, in [0, 1]; 0 leaves a model out.
        rescale: `inverse` divides kept entries by the density; `l1` multiplies them so that the
            sum of magnitudes does not change; `none` leaves them unchanged.
        scale: finite factor on the sum (the paper's lambda).
        normalize: whether coefficients are divided by their sum.
        draws: random numbers, M.
        measured: factors of `l1`, where the tensors are parts of larger ones.

    Returns:
        The merged tensor; shape and dtype of the inputs. Density 1 is task arithmetic.

    Raises:
        ValueError: an option is out of range, or coefficients to normalise sum to 0.

    Source: the paper's drop and rescale, with task arithmetic. mergekit rescales by `l1` only.
    The default here is the paper's: its expectation is the task vector itself, which does not hold
    for `l1` on small tensors.
    """
    densities = _checked_densities("dare_linear", density, len(tensors), rescale, scale)
    dropped = _dropped(tensors, base, draws, measured, densities, rescale)
    if normalize:
        coefficients = normalized("dare_linear", coefficients)
    return base + scale * sum_weighted(dropped, coefficients)


@method("dare_ties", is_elementwise=True, measure=measure_l1)
def dare_ties(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: Density = 0.5,
    rescale: Rescale = "inverse",
    scale: Scale = 1.0,
    normalize: bool = False,
    draws: Sequence[Draws],
    measured: Sequence[float | None] | None = None,
) -> Tensor:
    """Drop random entries of task vectors, rescale the others, and sum those that agree in sign.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        coefficients: M numbers, applied after dropping.
        density: probability of keeping an entry, in [0, 1]; 0 leaves a model out.
        rescale: as in `dare_linear`.
        scale: finite factor on the merged task vector (the paper's lambda).
        normalize: whether agreeing entries are averaged instead of summed.
        draws: random numbers, M.
        measured: factors of `l1`, where the tensors are parts of larger ones.

    Returns:
        The merged tensor; shape and dtype of the inputs. Equal to the base where all entries are
        dropped, and where their weighted sum is exactly 0.

    Raises:
        ValueError: an option is out of range.

    Source: the paper's drop and rescale, with TIES-Merging (https://arxiv.org/abs/2306.01708)
    from the election of signs on. Differences from mergekit are those of `dare_linear` and
    `ties`.
    """
    densities = _checked_densities("dare_ties", density, len(tensors), rescale, scale)
    dropped = _dropped(tensors, base, draws, measured, densities, rescale)
    return base + scale * merge_agreeing(dropped, coefficients, normalize=normalize)


def _checked_densities(
    name: str, density: PerModel, num_models: int, rescale: Rescale, scale: float
) -> list[float]:
    """Check all options; return the density of each model."""
    check_choice(name, "rescale", rescale, Rescale)
    check_scale(name, scale)
    return check_density(name, density, num_models)


def _dropped(
    tensors: Sequence[Tensor],
    base: Tensor,
    draws: Sequence[Draws],
    measured: Sequence[float | None] | None,
    densities: Sequence[float],
    rescale: Rescale,
) -> Iterator[Tensor]:
    """Return the task vectors, dropped and rescaled one at a time."""
    options = {"density": densities, "rescale": rescale}
    ratios = measured or measure_l1(Runs.of(tensors, base), draws, options)
    return (
        drop_and_rescale(tensor - base, density, own, rescale, ratio)
        for tensor, density, own, ratio in zip(tensors, densities, draws, ratios, strict=True)
    )
