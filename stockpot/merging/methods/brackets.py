"""Brackets of order statistics: ranges of magnitudes that have them, estimated from a sample.

The bits of floats >= 0, read as integers, are ordered as the floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stockpot.merging.runs import Run, Runs

_FEW = 2**16  # entries that are held at once, whatever they are
_STEP, _MOST_SAMPLED = 127, 2**16  # every 127th entry is sampled, but not more than this number
_DEVIATIONS = 3.5  # of a sample from the whole, in standard deviations: 1 bound in 2000 is missed

Counts = Sequence[Sequence[int]]
"""For each model, numbers of its largest entries."""


@dataclass(frozen=True, slots=True)
class Bracket:
    """A range of bits, [low, high), that should have those of a bound."""

    model: int
    low: int = 0
    high: int = 2**63  # above those of any magnitude

    @property
    def is_one_value(self) -> bool:
        """Whether all entries within are equal."""
        return self.high - self.low == 1

    def split(self, bits: NDArray[Any]) -> Split:
        """Split magnitudes at the bounds."""
        reached, beyond = bits >= self.low, bits >= self.high
        within = reached ^ beyond
        num_beyond, num_within = (int(np.count_nonzero(one)) for one in (beyond, within))
        if self.is_one_value:
            return Split(self, num_beyond, num_within, [])
        return Split(self, num_beyond, num_within, [bits[within]])


@dataclass(slots=True)
class Split:
    """The magnitudes of a model, split by a bracket.

    Attributes:
        bracket: where they are split.
        num_beyond: the number of those beyond it.
        num_within: the number of those within.
        within: these, of each run; empty if all are equal, or if they were too many to hold.
    """

    bracket: Bracket
    num_beyond: int = 0
    num_within: int = 0
    within: list[NDArray[Any]] = field(default_factory=list)

    def add(self, other: Split, most: int) -> None:
        """Add another run's; hold at most this number."""
        self.num_beyond += other.num_beyond
        self.num_within += other.num_within
        if self.num_within <= most:
            self.within += other.within
        else:
            self.within.clear()


def brackets_of(runs: Runs, counts: Counts | Callable[[Sequence[int]], Counts]) -> list[Bracket]:
    """Return a bracket for each count, model by model, from a sample; a wide one if few entries."""
    if runs.size <= _FEW:
        counts = counts([runs.size] * runs.num_models) if callable(counts) else counts
        return [Bracket(model) for model, own in enumerate(counts) for _ in own]
    step = max(_STEP, runs.size // _MOST_SAMPLED) | 1  # rows have even lengths, most of them
    runs_of_bits = runs.map_sample(lambda run: [numpy_bits(v) for v in run.vectors], step)
    sample = [np.sort(np.concatenate(of_model)) for of_model in zip(*runs_of_bits, strict=True)]
    if callable(counts):
        counts = counts([round(np.count_nonzero(s) / len(s) * runs.size) for s in sample])
    return [
        _bracket(model, sample[model], count / runs.size)
        for model, own in enumerate(counts)
        for count in own
    ]


def _bracket(model: int, ascending: NDArray[Any], share: float) -> Bracket:
    """Return the bracket of the bound of a share of largest entries, from a sorted sample."""
    number = len(ascending)
    distance = _DEVIATIONS * math.sqrt(number * share * max(0.0, 1 - share)) + 1
    first = math.floor(number * (1 - share) - distance)
    last = math.ceil(number * (1 - share) + distance)
    return Bracket(
        model,
        int(ascending[first]) if 0 <= first < number else 0,
        int(ascending[last]) + 1 if last < number else 2**63,
    )


def split_all(runs: Runs, brackets: Sequence[Bracket]) -> tuple[list[int], int, list[Split]]:
    """Split the entries of each model by its brackets.

    Returns:
        The numbers of entries of each model that are not 0, the number of bits of one, and a split
        per bracket.
    """

    def of_run(run: Run) -> tuple[list[int], int, list[Split]]:
        bits = [numpy_bits(vector) for vector in run.vectors]
        width = 8 * bits[0].itemsize
        nonzero = [int(np.count_nonzero(own)) for own in bits]
        return nonzero, width, [one.split(bits[one.model]) for one in brackets]

    nonzero, width, totals = [0] * runs.num_models, 0, [Split(one) for one in brackets]
    most = max(_FEW, runs.size // 8)
    for numbers, width_of_run, splits in runs.map(of_run):
        width = width_of_run
        nonzero = [a + b for a, b in zip(nonzero, numbers, strict=True)]
        for total, split in zip(totals, splits, strict=True):
            total.add(split, most)
    return nonzero, width, totals


def numpy_bits(values: Tensor) -> NDArray[Any]:
    """Return the bits of magnitudes; numpy selects and counts several times as fast as torch."""
    return values.abs().view({4: torch.int32, 8: torch.int64}[values.itemsize]).cpu().numpy()
