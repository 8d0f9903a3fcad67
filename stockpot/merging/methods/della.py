"""DELLA-Merging: drop, elect, fuse (Deep et al. 2024, https://arxiv.org/abs/2406.11617)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stockpot.merging.draws import Draws
from stockpot.merging.method import method
from stockpot.merging.methods.measured_masks import MeasuredMask, apply_masks, measure_mask
from stockpot.merging.methods.rank_masks import kept_by_rank
from stockpot.merging.methods.task_vectors import (
    Rescale,
    check_choice,
    check_density,
    check_scale,
    drop_and_rescale,
    keep_probabilities,
    merge_agreeing,
    normalized,
    sum_weighted,
)
from stockpot.merging.per_model import PerModel, each
from stockpot.merging.runs import Run, Runs
from stockpot.merging.search_ranges import Scale, SearchRange


def last_axis(shape: Sequence[int], _options: Mapping[str, Any]) -> int:
    """Return the number of entries of a row: the last dimension."""
    return shape[-1] if shape else 1


def measure_masks(
    runs: Runs, draws: Sequence[Draws], options: Mapping[str, Any]
) -> list[MeasuredMask] | None:
    """Draw the mask of each task vector, with the factor of `l1`; None for other `rescale`.

    Masks are kept, an eighth of a byte per entry and model, since sorting all rows again would take
    as long as all else.
    """
    if options["rescale"] != "l1":
        return None
    densities = each(options["density"], runs.num_models)
    epsilons = each(options["epsilon"], runs.num_models)
    return _drawn(runs, draws, list(zip(densities, epsilons, strict=True)))


@method("della", is_elementwise=True, row_length=last_axis, measure=measure_masks)
def della(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: Annotated[PerModel, SearchRange(0.3, 0.7)] = 0.5,
    epsilon: Annotated[PerModel, SearchRange(0.0, 0.25)] = 0.15,
    rescale: Rescale = "inverse",
    scale: Scale = 1.0,
    normalize: bool = True,
    draws: Sequence[Draws],
    measured: Sequence[MeasuredMask] | None = None,
    start: int = 0,
) -> Tensor:
    """Drop smaller entries with higher probability, and average those that agree in sign.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        coefficients: M numbers, applied after dropping; equal ones give the paper's method.
        density: mean probability of keeping an entry, in [0, 1]; 0 leaves a model out, 1 keeps all
            of its entries.
        epsilon: distance from it of the probabilities of a row's smallest and largest entry, in
            [0, min(density, 1 - density)); without effect at density 0 and 1.
        rescale: `inverse` divides each kept entry by its probability; `l1` multiplies them so
            that the sum of magnitudes does not change; `none` leaves them unchanged.
        scale: finite factor on the merged task vector (the paper's lambda).
        normalize: whether agreeing entries are averaged (the paper) or summed.
        draws: random numbers, M.
        measured: the masks of `l1`, where the tensors are parts of larger ones.
        start: position of the part's first entry.

    Returns:
        The merged tensor; shape and dtype of the inputs. Equal to the base where all entries are
        dropped, and where their weighted sum is exactly 0.

    Raises:
        ValueError: an option is out of range.

    Source: the paper's drop, elect and fuse. A row is the last dimension, as in mergekit, which
    rescales by `l1` only and cannot merge rows of one entry; here these are kept with probability
    `density`. Sign ties and averages are as in `ties`.
    """
    check_choice("della", "rescale", rescale, Rescale)
    check_scale("della", scale)
    ranges = _checked_ranges("della", density, epsilon, len(tensors))
    if rescale == "l1":
        masks = measured or _masks(tensors, base, draws, ranges)
        dropped = apply_masks(masks, tensors, base, start)
    else:
        dropped = _dropped(tensors, base, draws, ranges, rescale)
    return base + scale * merge_agreeing(dropped, coefficients, normalize=normalize)


@method("della_linear", is_elementwise=True, row_length=last_axis, measure=measure_masks)
def della_linear(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: Annotated[PerModel, SearchRange(0.3, 0.7)] = 0.5,
    epsilon: Annotated[PerModel, SearchRange(0.0, 0.25)] = 0.15,
    rescale: Rescale = "inverse",
    scale: Scale = 1.0,
    normalize: bool = False,
    draws: Sequence[Draws],
    measured: Sequence[MeasuredMask] | None = None,
    start: int = 0,
) -> Tensor:
    """Drop smaller entries of task vectors with higher probability, and add the sum to the base.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        coefficients: M numbers.
        density: mean probability of keeping an entry, in [0, 1]; 0 leaves a model out, 1 keeps all
            of its entries.
        epsilon: as in `della`.
        rescale: as in `della`.
        scale: finite factor on the sum (the paper's lambda).
        normalize: whether coefficients are divided by their sum.
        draws: random numbers, M.
        measured: the masks of `l1`, where the tensors are parts of larger ones.
        start: position of the part's first entry.

    Returns:
        The merged tensor; shape and dtype of the inputs. Epsilon 0 is `dare_linear`.

    Raises:
        ValueError: an option is out of range, or coefficients to normalise sum to 0.

    Source: the paper's dropping (MagPrune), without the election of signs, as in mergekit.
    Differences from it are those of `della`.
    """
    check_choice("della_linear", "rescale", rescale, Rescale)
    check_scale("della_linear", scale)
    ranges = _checked_ranges("della_linear", density, epsilon, len(tensors))
    if rescale == "l1":
        masks = measured or _masks(tensors, base, draws, ranges)
        dropped = apply_masks(masks, tensors, base, start)
    else:
        dropped = _dropped(tensors, base, draws, ranges, rescale)
    if normalize:
        coefficients = normalized("della_linear", coefficients)
    return base + scale * sum_weighted(dropped, coefficients)


def _checked_ranges(
    name: str, density: PerModel, epsilon: PerModel, num_models: int
) -> list[tuple[float, float]]:
    """Return the density and the epsilon of each model."""
    densities = check_density(name, density, num_models)
    ranges = list(zip(densities, each(epsilon, num_models), strict=True))
    for own, distance in ranges:
        farthest = min(own, 1 - own)
        if distance < 0 or (0 < own < 1 and not distance < farthest):
            raise ValueError(
                f"{name}: epsilon must be in [0, {farthest}), so that density +- epsilon stays in "
                f"(0, 1), got {distance} with density {own}"
            )
    return ranges


def _masks(
    tensors: Sequence[Tensor],
    base: Tensor,
    draws: Sequence[Draws],
    ranges: Sequence[tuple[float, float]],
) -> list[MeasuredMask]:
    """Draw the masks of whole tensors."""
    runs = Runs.of(tensors, base, last_axis(base.shape, {}))
    return _drawn(runs, draws, ranges)


def _drawn(
    runs: Runs, draws: Sequence[Draws], ranges: Sequence[tuple[float, float]]
) -> list[MeasuredMask]:
    def drawn(run: Run, model: int) -> NDArray[np.bool_]:
        vector, (density, epsilon) = run.vectors[model], ranges[model]
        if density in (0, 1):
            return np.full(vector.numel(), density == 1)
        return kept_by_rank(vector, density, epsilon, draws[model].at(run.start))

    return measure_mask(runs, drawn)


def _dropped(
    tensors: Sequence[Tensor],
    base: Tensor,
    draws: Sequence[Draws],
    ranges: Sequence[tuple[float, float]],
    rescale: Rescale,
) -> Iterator[Tensor]:
    """Yield the task vectors, dropped and rescaled."""
    for tensor, own, (density, epsilon) in zip(tensors, draws, ranges, strict=True):
        task_vector = tensor - base
        if density in (0, 1):
            yield task_vector * density
            continue
        probabilities = keep_probabilities(task_vector, density, epsilon)
        yield drop_and_rescale(task_vector, probabilities, own, rescale)
