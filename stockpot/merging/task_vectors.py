"""What methods that merge task vectors share; a task vector is a model's tensor minus the base's.

Functions that take several task vectors go over them once and keep none, so a method that gives
them an iterator holds one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

Rescale = Literal["inverse", "l1", "none"]


def check_density(method: str, density: float) -> None:
    """Refuse a share of kept entries that is not in (0, 1]."""
    if not 0 < density <= 1:
        raise ValueError(f"{method}: density must be in (0, 1], got {density}")


def check_scale(method: str, scale: float) -> None:
    """Refuse a factor on the merged task vector that is not finite."""
    if not math.isfinite(scale):
        raise ValueError(f"{method}: scale must be finite, got {scale}")


def check_rescale(method: str, rescale: str) -> None:
    """Refuse a way to rescale that there is not."""
    if rescale not in get_args(Rescale):
        raise ValueError(
            f"{method}: rescale must be one of {sorted(get_args(Rescale))}, got {rescale!r}"
        )


def check_gamma(method: str, gamma: float) -> None:
    """Refuse a share of outliers that is not in [0, 1)."""
    if not 0 <= gamma < 1:
        raise ValueError(f"{method}: gamma must be in [0, 1), got {gamma}")


def check_keep_range(method: str, density: float, epsilon: float) -> None:
    """Refuse a density and a spread around it that leave (0, 1)."""
    if not 0 < density < 1:
        raise ValueError(f"{method}: density must be in (0, 1), got {density}")
    if not 0 <= epsilon < min(density, 1 - density):
        raise ValueError(
            f"{method}: epsilon must be in [0, {min(density, 1 - density)}), so that density "
            f"+- epsilon stays in (0, 1), got {epsilon}"
        )


def normalized(method: str, coefficients: Sequence[float]) -> list[float]:
    """Return the coefficients divided by their sum.

    Raises:
        ValueError: they sum to 0.
    """
    total = sum(coefficients)
    if total == 0:
        raise ValueError(f"{method}: coefficients must not sum to 0, got {list(coefficients)}")
    return [coefficient / total for coefficient in coefficients]


def num_kept(size: int, share: float) -> int:
    """Return the share of `size` entries, rounded; at least 1, else small tensors lose all."""
    return min(size, max(1, round(share * size)))


def among_largest(values: Tensor, count: int) -> Tensor:
    """Tell which entries are the `count` largest.

    Args:
        values: numbers >= 0, float32 or float64, of any shape.
        count: how many; of equal ones, those first in flat order. Zeros are never among them,
            so fewer are if fewer are positive.

    Returns:
        Booleans, in the shape of `values`.
    """
    if count >= values.numel():
        return values > 0
    if count <= 0:
        return torch.zeros_like(values, dtype=torch.bool)
    flat = values.flatten()
    threshold = _kth_largest(flat, count)
    if threshold == 0:
        return values > 0
    chosen = flat >= threshold
    surplus = int(chosen.count_nonzero()) - count
    if surplus > 0:
        chosen[(flat == threshold).nonzero()[-surplus:, 0]] = False
    return chosen.view(values.shape)


def keep_largest(task_vector: Tensor, density: float) -> Tensor:
    """Keep the share `density` of entries of largest magnitude, and set the others to 0."""
    count = num_kept(task_vector.numel(), density)
    if count == task_vector.numel():
        return task_vector
    return task_vector.where(among_largest(task_vector.abs(), count), 0)


def keep_middle(task_vector: Tensor, density: float, gamma: float) -> Tensor:
    """Keep the share `density` of entries of largest magnitude after the outliers.

    Outliers are the share `gamma` (rounded down) of largest magnitude, or fewer if otherwise
    fewer than `density` would be left. All that is not kept is set to 0.
    """
    size = task_vector.numel()
    kept = num_kept(size, density)
    outliers = min(int(gamma * size), size - kept)
    magnitudes = task_vector.abs()
    middle = among_largest(magnitudes, outliers + kept) & ~among_largest(magnitudes, outliers)
    return task_vector.where(middle, 0)


def keep_probabilities(task_vector: Tensor, density: float, epsilon: float) -> Tensor:
    """Return how likely each entry is kept: evenly spread over density +- epsilon by its rank.

    The rank is that of the magnitude in the row, which is the last dimension; of equal entries
    the first is the lower one. In a row of one entry it is the density.
    """
    rows = task_vector.reshape(task_vector.shape or (1,))
    length = rows.shape[-1]
    order = rows.abs().argsort(dim=-1, stable=True)
    evenly = torch.linspace(-epsilon, epsilon, length, dtype=rows.dtype, device=rows.device)
    by_rank = density + (evenly if length > 1 else evenly * 0)
    probabilities = torch.empty_like(rows, memory_format=torch.contiguous_format)
    probabilities.scatter_(-1, order, by_rank.expand(rows.shape))
    return probabilities.view(task_vector.shape)


def drop_and_rescale(
    task_vector: Tensor,
    keep_probability: float | Tensor,
    generator: Generator,
    rescale: Rescale,
) -> Tensor:
    """Drop entries at random, and rescale those that stay.

    Args:
        task_vector: of any shape.
        keep_probability: in (0, 1], one for all entries or one each.
        generator: on the CPU; one number an entry is drawn, in flat order, whatever the device.
        rescale: `inverse` divides by the probability, so that the expectation stays; `l1` keeps
            the sum of magnitudes; `none` leaves them.

    Returns:
        A tensor of the task vector's shape and dtype.
    """
    drawn = torch.rand(task_vector.shape, generator=generator, dtype=torch.float32)
    kept = task_vector.where(drawn.to(task_vector.device) < keep_probability, 0)
    if rescale == "inverse":
        return kept / keep_probability
    if rescale == "l1":
        before, after = (_l1_norm(tensor) for tensor in (task_vector, kept))
        return kept * (before / after) if after > 0 else kept
    return kept


def sum_weighted(task_vectors: Iterable[Tensor], coefficients: Sequence[float]) -> Tensor:
    """Sum the task vectors times their coefficients, in the order given; at least one."""
    terms = (
        task_vector * coefficient
        for task_vector, coefficient in zip(task_vectors, coefficients, strict=True)
    )
    total = next(terms)
    for term in terms:
        total += term
    return total


def merge_agreeing(
    task_vectors: Iterable[Tensor], coefficients: Sequence[float], *, normalize: bool
) -> Tensor:
    """Sum, in each entry, the weighted task vectors that have the sign of their sum.

    Args:
        task_vectors: M of one shape, at least one.
        coefficients: M numbers.
        normalize: whether the sum is divided by the total of the coefficients of those it is
            made of. Their magnitudes are added, so that a negative coefficient still subtracts
            and the total never comes near 0.

    Returns:
        A task vector; 0 in entries where the sum is 0 and no sign can be elected.
    """
    # By sign, so that the election needs no second pass: of positive entries, of negative ones.
    totals: list[Tensor] = []
    for task_vector, coefficient in zip(task_vectors, coefficients, strict=True):
        flat = task_vector.flatten()
        totals = totals or [torch.zeros_like(flat) for _ in range(4 if normalize else 2)]
        shape = task_vector.shape
        for entries, *sums in _blocks(flat, *totals):
            weighted = entries * coefficient
            sums[0] += weighted.clamp(min=0)
            sums[1] += weighted.clamp(max=0)
            if normalize:
                sums[2] += (weighted > 0).to(weighted.dtype) * abs(coefficient)
                sums[3] += (weighted < 0).to(weighted.dtype) * abs(coefficient)

    for positive, negative, *shares in _blocks(*totals):
        elected = positive + negative
        merged = positive.where(elected > 0, negative).where(elected != 0, 0)
        if normalize:
            # The elected sign has a voter in every entry but those without one: there 0 / 1.
            merged /= shares[0].where(elected > 0, shares[1]).where(elected != 0, 1)
        positive.copy_(merged)
    return totals[0].view(shape)


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Go over flat tensors together, some entries at a time.

    Temporaries of a few steps then stay in the processor's cache, and their memory is not asked
    of the system anew, which on tensors of millions of entries costs more than the arithmetic.
    """
    return zip(*(torch.split(tensor, 1 << 18) for tensor in tensors), strict=True)


def _l1_norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, ord=1, dtype=torch.float64))


def _kth_largest(values: Tensor, count: int) -> Tensor:
    """Return the `count`-th largest of numbers >= 0, by a histogram of their leading bits.

    Bits of floats >= 0, read as integers, are in the order of the floats. On 20 million entries
    this takes a quarter of the time of `kthvalue` and none of its memory for indices.
    """
    bits = values.view({4: torch.int32, 8: torch.int64}[values.itemsize])
    leading = bits >> (8 * values.itemsize - 17)  # sign and 16 bits, so at most 65536 bins
    from_the_top = leading.bincount().flip(0).cumsum(0)
    position = int(torch.searchsorted(from_the_top, count))
    rest = values[leading == len(from_the_top) - 1 - position]
    above = int(from_the_top[position]) - len(rest)
    return rest.topk(count - above, sorted=False).values.amin()
