"""Iteration over same-named tensors of all models, one run of entries at a time.

A run in float32 fits into the cache of a core, and its temporaries reuse memory. Measurements are
summed in the order of the runs, so that tensors in memory and in files give the same bits, for any
number of threads. For methods that treat rows, a run consists of whole rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

MOST_ENTRIES = 2**18  # entries; smaller runs would make Python's overhead noticeable

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """Consecutive entries of the tensors, flattened; whole rows as matrices.

    Attributes:
        start: position of the first entry.
        tensors: M tensors, one per model, float32 or float64; (entries,), or (rows, row).
        base: the base's entries; None without a base.
    """

    start: int
    tensors: Sequence[Tensor]
    base: Tensor | None

    @cached_property
    def vectors(self) -> list[Tensor]:
        """The task vectors; without a base, the models themselves."""
        if self.base is None:
            return list(self.tensors)
        return [tensor - self.base for tensor in self.tensors]


class ReadRun(Protocol):
    """Reads entries of same-named tensors."""

    def __call__(self, first: int, last: int, step: int = 1, /) -> Run:
        """Return the entries [first, last), or every `step`-th of them if runs have no rows."""


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs of same-named tensors.

    Attributes:
        num_models: M.
        size: the number of entries of each tensor.
        read: reads a run.
        spread: like the built-in `map`; may use threads, which does not change results.
        row: the number of entries of a row, if runs are of whole rows.
        at_once: the number of runs that are read as one.
    """

    num_models: int
    size: int
    read: ReadRun
    spread: Callable[..., Iterator[Any]] = map
    row: int | None = None
    at_once: int = 1

    @classmethod
    def of(
        cls, tensors: Sequence[Tensor], base: Tensor | None = None, row: int | None = None
    ) -> Runs:
        """Return the runs of tensors in memory."""
        flat = [tensor.reshape(-1) for tensor in tensors]
        flat_base = None if base is None else base.reshape(-1)

        def read(first: int, last: int, step: int = 1) -> Run:
            part = slice(first, last, step)
            cut_base = None if flat_base is None else in_rows(flat_base[part], row)
            return Run(first, [in_rows(tensor[part], row) for tensor in flat], cut_base)

        return cls(len(flat), flat[0].numel(), read, row=row)

    def map(self, function: Callable[[Run], T]) -> Iterator[T]:
        """Apply a function to all runs; yield the results in order."""
        return self.spread(lambda bounds: function(self.read(*bounds)), self.bounds)

    def map_sample(self, function: Callable[[Run], T], step: int) -> Iterator[T]:
        """Apply a function to every `step`-th entry of each run; yield the results in order."""
        return self.spread(lambda run: function(self.read(run[0], run[1], step)), self.bounds)

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """The first and the last entry (exclusive) of each run."""
        return run_bounds(0, self.size, self.row, self.at_once)

    @property
    def run_size(self) -> int:
        """The number of entries of each run but the last."""
        return run_size(self.row, self.at_once)


def in_rows(entries: Tensor, row: int | None) -> Tensor:
    """Return flattened entries of whole rows as a matrix; unchanged for entries of no row."""
    return entries if row is None else entries.view(-1, row)


def run_size(row: int | None, at_once: int = 1) -> int:
    """Return the number of entries of a run: of as many whole rows as fit, but at least one."""
    row = row or 1
    return max(1, at_once * MOST_ENTRIES // row) * row


def run_bounds(
    first: int, last: int, row: int | None = None, at_once: int = 1
) -> list[tuple[int, int]]:
    """Split the entries from `first`, itself a bound, to `last` (exclusive) into runs."""
    size = run_size(row, at_once)
    return [(start, min(start + size, last)) for start in range(first, last, size)]


def runs_with(first: int, last: int, size: int, row: int | None = None) -> list[tuple[int, int]]:
    """Return the runs of a tensor of `size` entries that have any of the entries [first, last)."""
    step = run_size(row)
    start, end = first // step * step, -(-last // step) * step
    return run_bounds(start, min(end, size), row)
