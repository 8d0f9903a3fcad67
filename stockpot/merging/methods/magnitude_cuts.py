"""The largest entries of a task vector, found without sorting all and without a copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import hardshrink

from stockpot.merging.methods.brackets import Counts, Split, brackets_of, numpy_bits, split_all
from stockpot.merging.runs import Run, Runs

_DIGIT = 16  # bits that one pass over the entries finds otherwise
_BINS = 2 ** (_DIGIT - 1)  # by the leading bits of magnitudes, whose sign bit is 0


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
    num_before = cut.last + 1 - start  # first entries, of which equal ones are kept too
    limit = torch.tensor(cut.magnitude, dtype=task_vector.dtype)
    below = float(limit.nextafter(torch.zeros_like(limit)))
    if num_before >= task_vector.numel():
        return hardshrink(task_vector.contiguous(), below)
    kept = hardshrink(task_vector.contiguous(), cut.magnitude)
    if num_before > 0:
        flat = kept.view(-1)  # a view of the result
        flat[:num_before] = hardshrink(task_vector.reshape(-1)[:num_before], below)
    return kept


def find_cuts(runs: Runs, counts: Counts | Callable[[Sequence[int]], Counts]) -> list[list[Cut]]:
    """Find the lower bound of the largest entries of each task vector, exactly.

    The bits of floats >= 0, read as integers, are ordered as the floats. A sample of the entries
    tells a bracket that nearly always has those of the bound; the few entries within it are sorted
    out. Otherwise, a histogram of the leading 16 bits tells those of the bound, and one of the next
    16 bits, over the entries that share them, the next. Memory is bounded, whatever the values are.

    Args:
        runs: M models, with or without a base.
        counts: for each model, numbers of largest entries; of equal ones, the first in flat order.
            Zeros are not included, even if there are fewer other entries. Or a function that
            returns them for the numbers of entries, M, that are not 0.

    Returns:
        A cut per count, for each model.
    """
    brackets = brackets_of(runs, counts)
    nonzero, width, splits = split_all(runs, brackets)
    counts = counts(nonzero) if callable(counts) else counts
    searches = [[_Search(model, n, width) for n in own] for model, own in enumerate(counts)]
    begun = []
    for one, split in zip(chain.from_iterable(searches), splits, strict=True):
        if 0 < one.count <= nonzero[one.model]:
            one.settle(split)
            begun.append(one)
    if unsettled := [one for one in begun if one.known < width]:
        histograms = _leading_histograms(runs)
        for one in unsettled:
            one.narrow(histograms[one.model])
        while unsettled[0].known < width:
            _narrow(runs, unsettled)
    _find_last(runs, [one for one in begun if one.count < one.num_equal])
    return [[one.cut for one in own] for own in searches]


@dataclass(slots=True)
class _Search:
    """The search for the bits of the `count`-th largest magnitude of a model.

    Attributes:
        model: its position.
        count: the number of largest entries; of those with the prefix, once that is known.
        width: the number of bits of a magnitude.
        prefix: the leading bits that are known.
        known: their number.
        num_equal: the number of entries with the prefix.
        last: as in `Cut`.
    """

    model: int
    count: int
    width: int
    prefix: int = 0
    known: int = 0
    num_equal: int = 0
    last: int = -1

    def settle(self, split: Split) -> None:
        """Find all bits, if the entry is within the bracket and those within are known."""
        rest = self.count - split.num_beyond
        if not 0 < rest <= split.num_within:
            return
        if split.bracket.is_one_value:
            self.prefix, self.num_equal, self.count = split.bracket.low, split.num_within, rest
        elif split.within:
            values = np.concatenate(split.within)
            place = len(values) - rest
            values.partition(place)
            self.prefix = int(values[place])
            self.num_equal = int(np.count_nonzero(values == self.prefix))
            self.count = rest - int(np.count_nonzero(values > self.prefix))
        else:
            return
        self.known = self.width

    def digits(self, bits: NDArray[Any]) -> NDArray[np.uint16]:
        """Return the next bits of the entries that share the prefix."""
        held = bits[bits >> (self.width - self.known) == self.prefix]
        shifted = held >> (self.width - self.known - _DIGIT)
        digits: NDArray[np.uint16] = shifted.astype(np.uint16)  # without the bits before them
        return digits

    def narrow(self, histogram: NDArray[np.int64]) -> None:
        """Extend the prefix, by the histogram of the next bits of the entries that share it."""
        from_largest = histogram[::-1].cumsum()
        place = int(np.searchsorted(from_largest, self.count))
        self.num_equal = int(histogram[::-1][place])
        self.count -= int(from_largest[place]) - self.num_equal
        self.prefix = self.prefix << _DIGIT | len(histogram) - 1 - place
        self.known += _DIGIT

    @property
    def cut(self) -> Cut:
        """The bound, once the search has ended."""
        if not self.known:  # none are asked for, or at least all that are not 0
            return Cut(torch.inf if self.count <= 0 else 0.0)
        if self.last < 0:  # all equal ones are kept
            return Cut(_float_of(self.prefix - 1, self.width))
        return Cut(_float_of(self.prefix, self.width), self.last)


def _leading_histograms(runs: Runs) -> NDArray[np.int64]:
    """Return the numbers of entries of each model by their leading bits, (M, bins)."""

    def of_run(run: Run) -> list[NDArray[Any]]:
        bits = map(numpy_bits, run.vectors)
        leading = (own >> (8 * own.itemsize - _DIGIT) for own in bits)
        return [np.bincount(own, minlength=_BINS) for own in leading]

    total = np.zeros((runs.num_models, _BINS), np.int64)
    for found in runs.map(of_run):
        total += found
    return total


def _narrow(runs: Runs, searches: Sequence[_Search]) -> None:
    """Extend the prefixes by one digit, in one pass over all entries."""

    def of_run(run: Run) -> list[NDArray[np.uint16]]:
        bits = _bits_of_models(run, searches)
        return [one.digits(bits[one.model]) for one in searches]

    totals = np.zeros((len(searches), 2**_DIGIT), np.int64)
    for found in runs.map(of_run):
        totals += [np.bincount(digits, minlength=2**_DIGIT) for digits in found]
    for one, total in zip(searches, totals, strict=True):
        one.narrow(total)


def _find_last(runs: Runs, searches: Sequence[_Search]) -> None:
    """Find the position of the last entry that is kept, where not all equal ones are."""
    if not searches:
        return

    def numbers(run: Run) -> list[int]:
        bits = _bits_of_models(run, searches)
        return [int(np.count_nonzero(bits[one.model] == one.prefix)) for one in searches]

    for one, of_runs in zip(searches, zip(*runs.map(numbers), strict=True), strict=True):
        until = np.cumsum(of_runs)
        place = int(np.searchsorted(until, one.count))
        run = runs.read(*runs.bounds[place])
        # By bits, since NaN equals nothing; such a value is refused when its run is merged.
        equal = np.flatnonzero(numpy_bits(run.vectors[one.model]) == one.prefix)
        one.last = run.start + int(equal[one.count - 1 - (int(until[place]) - of_runs[place])])


def _bits_of_models(run: Run, searches: Sequence[_Search]) -> dict[int, NDArray[Any]]:
    """Return the bits of the models that are searched."""
    return {m: numpy_bits(run.vectors[m]) for m in {one.model for one in searches}}


def _float_of(bits: int, width: int) -> float:
    """Return the float >= 0 with these bits."""
    if width == 32:
        return float(np.array(bits, np.int32).view(np.float32))
    return float(np.array(bits, np.int64).view(np.float64))
