"""The largest entries of a task vector, found without sorting and without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import hardshrink

from stockpot.merging.runs import Run, Runs

B = TypeVar("B", Tensor, NDArray[Any])

_BINS = 2**15  # by the leading 16 bits of magnitudes, whose sign bit is 0


@dataclass(frozen=True, slots=True)
class Cut:
    """The lower bound of the largest entries of a task vector.

    Attributes:
        magnitude: entries above it are among the largest.
        last: entries of exactly this magnitude are too, up to this position; -1: none of them.
    """

    magnitude: float
    last: int = -1


def num_kept(size: int, share: float) -> int:
    """Return the share of `size` entries, rounded; at least 1, unless the share is 0.

    With at least 1, no tensor of a model loses all of its change.
    """
    return min(size, max(1, round(share * size))) if share else 0


def keep_largest(task_vector: Tensor, cut: Cut, start: int = 0) -> Tensor:
    """Set all entries but those of largest magnitude to 0.

    Args:
        task_vector: a task vector or a part of one, of any shape.
        cut: the lower bound of the largest entries.
        start: position of the first entry in the whole task vector.
    """
    kept = hardshrink(task_vector.contiguous(), cut.magnitude)
    num_before = cut.last + 1 - start  # first entries, of which equal ones are kept too
    if num_before > 0:
        limit = torch.tensor(cut.magnitude, dtype=task_vector.dtype)
        below = float(limit.nextafter(torch.zeros_like(limit)))
        flat = kept.view(-1)  # a view of the result
        flat[:num_before] = hardshrink(task_vector.reshape(-1)[:num_before], below)
    return kept


def find_cuts(runs: Runs, counts: Sequence[Sequence[int]]) -> list[list[Cut]]:
    """Find the lower bound of the largest entries of each task vector.

    The bits of floats >= 0, read as integers, are ordered as the floats: a histogram of the leading
    bits tells which bin the bound is in, and only its entries are read again.

    Args:
        runs: M models, with or without a base.
        counts: for each model, numbers of largest entries; of equal ones, the first in flat order.
            Zeros are not included, even if there are fewer other entries.

    Returns:
        A cut per count, for each model.
    """
    totals = _histograms(runs).flip(1).cumsum(1)  # (M, bins), cumulative from the largest
    cuts: list[list[Cut]] = [[] for _ in range(runs.num_models)]
    asked = [(model, count) for model, own in enumerate(counts) for count in own]
    bins = [_bin_of(totals[model], count) for model, count in asked]
    found = list(
        runs.map(
            # A copy after the temporaries are freed: a result that is allocated between them
            # would fragment the heap by some MB per run.
            lambda run: [
                _bits_in(run.vectors[model], chosen).copy()
                for (model, _), chosen in zip(asked, bins, strict=True)
            ]
        )
    )
    for number, (model, count) in enumerate(asked):
        above = int(totals[model, _BINS - 2 - bins[number]]) if bins[number] < _BINS - 1 else 0
        bits_per_run = [bits[number] for bits in found]
        cuts[model].append(_cut(runs, model, bits_per_run, count - above))
    return cuts


def _histograms(runs: Runs) -> Tensor:
    def of_run(run: Run) -> Tensor:
        return torch.stack([_leading(_bits(v)).bincount(minlength=_BINS) for v in run.vectors])

    none = torch.zeros(runs.num_models, _BINS, dtype=torch.int64)
    return sum((histogram.cpu() for histogram in runs.map(of_run)), none)


def _bin_of(totals: Tensor, count: int) -> int:
    """Return the bin of the `count`-th largest entry."""
    return _BINS - 1 - min(_BINS - 1, int(torch.searchsorted(totals, count)))


def _bits(values: Tensor) -> Tensor:
    return values.abs().view({4: torch.int32, 8: torch.int64}[values.itemsize])


def _leading(bits: B) -> B:
    return bits >> (8 * bits.itemsize - 16)


def _bits_in(values: Tensor, chosen: int) -> NDArray[Any]:
    """Return the bits of the entries in a bin, without zeros."""
    bits = _bits(values).cpu().numpy()  # boolean indexing takes a fifth of torch's time
    held: NDArray[Any] = bits[_leading(bits) == chosen]
    return held if chosen else held[held > 0]


def _cut(runs: Runs, model: int, bits_per_run: Sequence[NDArray[Any]], count: int) -> Cut:
    """Return the cut below the `count` largest of the entries whose bits are given, run by run."""
    if count <= 0:
        return Cut(torch.inf)
    if count > sum(len(bits) for bits in bits_per_run):
        return Cut(0.0)  # all entries that are not 0
    bits = torch.from_numpy(np.concatenate(bits_per_run))
    smallest = bits.topk(count, sorted=False).values.amin()
    magnitude = float(smallest.view({4: torch.float32, 8: torch.float64}[bits.itemsize]))
    equal_ones = count - int((bits > smallest).count_nonzero())
    for bounds, own in zip(runs.bounds, bits_per_run, strict=True):
        in_run = int(np.count_nonzero(own == int(smallest)))
        if equal_ones <= in_run:
            run = runs.read(*bounds)
            # By bits, since NaN equals nothing; such a value is refused when its run is merged.
            positions = (_bits(run.vectors[model]) == smallest).nonzero()
            return Cut(magnitude, run.start + int(positions[equal_ones - 1]))
        equal_ones -= in_run
    raise AssertionError("the smallest of the largest entries is one of them")
