"""Shared operations on task vectors; a task vector is a model's tensor minus the base's.

`sum_weighted` consumes an iterator, so that one task vector is in memory at a time; the election
of signs needs all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from stockpot.merging.draws import Draws
from stockpot.merging.measurements import depends_on
from stockpot.merging.methods.magnitude_cuts import Cut, find_cuts, keep_largest, num_kept
from stockpot.merging.per_model import PerModel, each
from stockpot.merging.runs import Run, Runs

Rescale = Literal["inverse", "l1", "none"]

_SORTED = 2**18  # entries, in whole rows, to sort at once: they fit into the cache


def check_density(method: str, density: PerModel, num_models: int) -> list[float]:
    """Return the density of each model; all must be in [0, 1]."""
    for own in (densities := each(density, num_models)):
        if not 0 <= own <= 1:
            raise ValueError(f"{method}: density must be in [0, 1], got {own}")
    return densities


def check_scale(method: str, scale: float) -> None:
    """Require a finite factor on the merged task vector."""
    if not math.isfinite(scale):
        raise ValueError(f"{method}: scale must be finite, got {scale}")


def check_choice(method: str, option: str, value: str, choices: Any) -> None:
    """Require one of the values of a `Literal`."""
    names = sorted(get_args(choices))
    if value not in names:
        raise ValueError(f"{method}: {option} must be one of {names}, got {value!r}")


def normalized(method: str, coefficients: Sequence[float]) -> list[float]:
    """Return the coefficients divided by their sum.

    Raises:
        ValueError: they sum to 0.
    """
    total = sum(coefficients)
    if total == 0:
        raise ValueError(f"{method}: coefficients must not sum to 0, got {list(coefficients)}")
    return [coefficient / total for coefficient in coefficients]


@depends_on("density", "gamma", of_each=True)
def measure_middle(
    runs: Runs, _draws: Sequence[Draws], options: Mapping[str, Any]
) -> list[list[Cut]]:
    """Return two cuts for each task vector: below its outliers, and below the middle after them.

    Outliers are the fraction `gamma` (rounded down) of largest magnitude, or fewer if otherwise
    fewer than `density` would be left.
    """
    kept = [num_kept(runs.size, share) for share in each(options["density"], runs.num_models)]
    gammas = each(options["gamma"], runs.num_models)
    counts = []
    for own, gamma in zip(kept, gammas, strict=True):
        outliers = min(int(gamma * runs.size), runs.size - own)
        counts.append([outliers, outliers + own])
    return find_cuts(runs, counts)


def keep_middle(task_vector: Tensor, cuts: Sequence[Cut], start: int = 0) -> Tensor:
    """Set all entries but those between two cuts to 0."""
    outliers, end = cuts
    return keep_largest(task_vector, end, start) - keep_largest(task_vector, outliers, start)


def keep_middle_of_rows(task_vector: Tensor, density: float, gamma: float) -> Tensor:
    """Keep the middle of each row, as `keep_middle` does for a whole task vector.

    A row is the last dimension; a task vector without dimensions is one row.
    """
    rows = _rows_of(task_vector)
    length = rows.shape[-1]
    kept = num_kept(length, density)
    outliers = min(int(gamma * length), length - kept)
    result = torch.zeros_like(rows, memory_format=torch.contiguous_format)
    for block, places in _blocks(rows, result):
        # Reversed, so that of equal entries the first ranks higher.
        ascending = length - 1 - order_of(block.flip(-1))
        middle = ascending[:, length - outliers - kept : length - outliers]
        places.scatter_(-1, middle, block.gather(-1, middle))
    return result.view(task_vector.shape)


def keep_probabilities(task_vector: Tensor, density: float, epsilon: float) -> Tensor:
    """Return the probability of keeping each entry: density +- epsilon, linear in its rank.

    The rank is that of the magnitude within the row, the last dimension; of equal entries the
    first has the lower rank. The probability in a row of one entry is the density.
    """
    rows = _rows_of(task_vector)
    by_rank = probabilities_by_rank(rows, density, epsilon)
    probabilities = torch.empty_like(rows, memory_format=torch.contiguous_format)
    for block, places in _blocks(rows, probabilities):
        places.scatter_(-1, order_of(block), by_rank.expand(block.shape))
    return probabilities.view(task_vector.shape)


def probabilities_by_rank(rows: Tensor, density: float, epsilon: float) -> Tensor:
    """Return the probability of keeping an entry of each rank in its row, smallest first."""
    length = rows.shape[-1]
    evenly = torch.linspace(-epsilon, epsilon, length, dtype=rows.dtype, device=rows.device)
    return density + (evenly if length > 1 else evenly * 0)


def _rows_of(tensor: Tensor) -> Tensor:
    length = tensor.shape[-1] if tensor.ndim else 1
    return tensor.reshape(tensor.shape[:-1].numel(), length)


def _blocks(rows: Tensor, places: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield blocks of rows of both, to sort at once."""
    at_once = max(1, _SORTED // max(1, rows.shape[-1]))
    yield from zip(torch.split(rows, at_once), torch.split(places, at_once), strict=True)


def order_of(rows: Tensor) -> Tensor:
    """Return the positions of each row's entries, smallest magnitude first, as a stable sort."""
    if rows.dtype != torch.float32:
        return rows.abs().argsort(dim=-1, stable=True)
    # The bits of floats >= 0 are ordered as the floats, and positions break ties; sorting 64-bit
    # integers takes less than half the time of a stable argsort of floats.
    bits = rows.contiguous().cpu().numpy().view(np.int32) & 0x7FFFFFFF  # without the sign
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= np.arange(rows.shape[-1])
    keys.sort(axis=-1)
    keys &= 0xFFFFFFFF
    return torch.from_numpy(keys).to(rows.device)


def drop_and_rescale(
    task_vector: Tensor,
    keep_probability: float | Tensor,
    draws: Draws,
    rescale: Rescale,
    ratio: float | None = None,
) -> Tensor:
    """Drop random entries, and rescale the others.

    Args:
        task_vector: of any shape.
        keep_probability: in (0, 1], for all entries or per entry; or 0 for all entries, which
            gives zeros.
        draws: one random number per entry.
        rescale: `inverse` divides by the probability, which preserves the expectation; `l1`
            preserves the sum of magnitudes; `none` leaves them unchanged.
        ratio: the factor of `l1`; None if `task_vector` is a whole one, to compute it.

    Returns:
        A tensor of the task vector's shape and dtype.
    """
    if isinstance(keep_probability, float | int) and keep_probability == 0:
        return torch.zeros_like(task_vector)
    kept = drop(task_vector, keep_probability, draws)
    if rescale == "inverse":
        if isinstance(keep_probability, float | int):
            # Dividing by a number, CUDA multiplies by its reciprocal, which rounds twice.
            keep_probability = kept.new_full((), keep_probability)
        return kept.div_(keep_probability)
    if rescale == "l1":
        return kept.mul_(ratio or l1_ratio(l1_norm(task_vector), l1_norm(kept)))
    return kept


def drop(task_vector: Tensor, keep_probability: float | Tensor, draws: Draws) -> Tensor:
    """Set random entries to 0."""
    return draws.kept(keep_probability, task_vector).mul_(task_vector)


@depends_on("density", "rescale", of_each=True)
def measure_l1(
    runs: Runs, draws: Sequence[Draws], options: Mapping[str, Any]
) -> Sequence[float | None]:
    """Return the factors that restore the sum of magnitudes of each task vector after dropping.

    They are None unless `rescale` is `l1`.
    """
    if options["rescale"] != "l1":
        return [None] * runs.num_models

    densities = each(options["density"], runs.num_models)

    def norms(run: Run) -> Tensor:
        pairs = []
        for vector, density, own in zip(run.vectors, densities, draws, strict=True):
            magnitudes = vector.abs()
            left = drop(magnitudes, density, own.at(run.start))
            pairs.append((float(magnitudes.sum()), float(left.sum())))
        return torch.tensor(pairs, dtype=torch.float64)

    total = sum(runs.map(norms), torch.zeros(runs.num_models, 2, dtype=torch.float64))
    return [l1_ratio(before, after) for before, after in total.tolist()]


def l1_ratio(before: float, after: float) -> float:
    """Return the factor that restores a sum of magnitudes; 1 if nothing is left to rescale."""
    return before / after if after > 0 else 1.0


def sum_weighted(task_vectors: Iterable[Tensor], coefficients: Sequence[float]) -> Tensor:
    """Sum the task vectors times their coefficients, in the order given; at least one."""
    terms = (vector * c for vector, c in zip(task_vectors, coefficients, strict=True))
    total = next(terms)
    for term in terms:
        total += term
    return total


def merge_agreeing(
    task_vectors: Iterable[Tensor], coefficients: Sequence[float], *, normalize: bool
) -> Tensor:
    """Sum, in each entry, the weighted task vectors that agree with the sign of their sum.

    Args:
        task_vectors: M >= 1 tensors of one shape.
        coefficients: M numbers.
        normalize: whether the sum is divided by the total magnitude of its coefficients. With
            magnitudes, a negative coefficient still subtracts and the total is not near 0.

    Returns:
        A task vector; 0 in entries where the sum is 0, so that no sign is elected.
    """
    weighted = [vector * c for vector, c in zip(task_vectors, coefficients, strict=True)]
    elected = weighted[0].clone()
    for vector in weighted[1:]:
        elected += vector
    elected.sign_()
    total = torch.zeros_like(elected)
    shares = 1 - elected.abs()  # where no sign is elected: 0 / 1
    for vector, coefficient in zip(weighted, coefficients, strict=True):
        agreeing = vector.mul_(elected).clamp_(min=0)  # magnitudes; 0 for the others
        total += agreeing
        if normalize:
            shares.add_(agreeing.sign_(), alpha=abs(coefficient))
    merged = total.mul_(elected)
    return merged.div_(shares) if normalize else merged


def l1_norm(tensor: Tensor) -> float:
    """Return the sum of magnitudes."""
    return float(tensor.abs().sum())  # pairwise summation: float32 is enough
