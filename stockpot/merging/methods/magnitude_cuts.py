"""Which entries of a task vector are its largest, found without sorting and without a copy."""

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

_BINS = 2**15  # of magnitudes by their leading 16 bits, of which the sign is 0


@dataclass(frozen=True, slots=True)
class Cut:
    """Where the largest entries of a task vector end.

    Attributes:
        magnitude: entries above it are among the largest.
        last: position of the last one of exactly that magnitude that is, too; -1 for none.
    """

    magnitude: float
    last: int = -1


def num_kept(size: int, share: float) -> int:
    """Return the share of `size` entries, rounded; at least 1, else small tensors lose all."""
    return min(size, max(1, round(share * size)))


def keep_largest(task_vector: Tensor, cut: Cut, start: int = 0) -> Tensor:
    """Keep the entries of largest magnitude, and set the others to 0.

    Args:
        task_vector: entries of one, of any shape.
        cut: where the largest end.
        start: position of the first entry in the whole task vector.
    """
    kept = hardshrink(task_vector.contiguous(), cut.magnitude)
    num_before = cut.last + 1 - start  # entries of which those of equal magnitude are kept
    if num_before > 0:
        limit = torch.tensor(cut.magnitude, dtype=task_vector.dtype)
        below = float(limit.nextafter(torch.zeros_like(limit)))
        flat = kept.view(-1)  # a view of the result
        flat[:num_before] = hardshrink(task_vector.reshape(-1)[:num_before], below)
    return kept


def find_cuts(runs: Runs, counts: Sequence[int]) -> list[list[Cut]]:
    """Find where the largest entries of each task vector end.

    Bits of floats >= 0, read as integers, are in the order of the floats: a histogram of the
    leading ones says which entries a count ends among, and only these are looked at again.

    Args:
        runs: M models, and perhaps a base.
        counts: how many entries; of equal ones those first in flat order. Zeros are never among
            the largest, so fewer are if fewer entries differ from 0.

    Returns:
        For each model, a cut for each count.
    """
    totals = _histograms(runs).flip(1).cumsum(1)  # (M, bins), of entries from the largest on
    cuts: list[list[Cut]] = [[] for _ in range(runs.num_models)]
    asked = [(model, count) for model in range(runs.num_models) for count in counts]
    bins = [_bin_of(totals[model], count) for model, count in asked]
    found = list(
        runs.map(
            # Copied when what it was found by is freed: if it were kept from among these, the
            # system's allocator would take some MB anew for each run.
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

    total = torch.zeros(runs.num_models, _BINS, dtype=torch.int64)
    for histogram in runs.map(of_run):
        total += histogram.cpu()
    return total


def _bin_of(totals: Tensor, count: int) -> int:
    """Return the bin that the `count`-th largest entry is in."""
    return _BINS - 1 - min(_BINS - 1, int(torch.searchsorted(totals, count)))


def _bits(values: Tensor) -> Tensor:
    return values.abs().view({4: torch.int32, 8: torch.int64}[values.itemsize])


def _leading(bits: B) -> B:
    return bits >> (8 * bits.itemsize - 16)


def _bits_in(values: Tensor, chosen: int) -> NDArray[Any]:
    """Return the bits of the entries in a bin that are not 0."""
    bits = _bits(values).cpu().numpy()  # where an index of booleans takes a fifth of the time
    held: NDArray[Any] = bits[_leading(bits) == chosen]
    return held if chosen else held[held > 0]


def _cut(runs: Runs, model: int, bits_per_run: Sequence[NDArray[Any]], count: int) -> Cut:
    """Cut after the `count` largest of the entries whose bits are given, run by run."""
    if count <= 0:
        return Cut(torch.inf)
    if count > sum(len(bits) for bits in bits_per_run):
        return Cut(0.0)  # there are fewer entries that are not 0
    bits = torch.from_numpy(np.concatenate(bits_per_run))
    smallest = bits.topk(count, sorted=False).values.amin()
    magnitude = float(smallest.view({4: torch.float32, 8: torch.float64}[bits.itemsize]))
    equal_ones = count - int((bits > smallest).count_nonzero())
    for bounds, own in zip(runs.bounds, bits_per_run, strict=True):
        in_run = int(np.count_nonzero(own == int(smallest)))
        if equal_ones <= in_run:
            run = runs.read(*bounds)
            positions = (run.vectors[model].abs() == magnitude).nonzero()
            return Cut(magnitude, run.start + int(positions[equal_ones - 1]))
        equal_ones -= in_run
    raise AssertionError("the smallest of the largest entries is one of them")
