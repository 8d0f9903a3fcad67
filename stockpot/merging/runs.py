"""Iteration over same-named tensors of all models, one run of entries at a time.

A run in float32 fits into the cache of a core, and its temporaries reuse memory. Measurements are
summed in the order of the runs, so that tensors in memory and in files give the same bits, for any
number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

MOST_ENTRIES = 2**18  # entries; smaller runs would make Python's overhead noticeable

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """Consecutive entries of the tensors, flattened.

    Attributes:
        start: position of the first entry.
        tensors: M tensors, one per model, float32 or float64.
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


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs of same-named tensors.

    Attributes:
        num_models: M.
        size: the number of entries of each tensor.
        read: (first, last) -> the run of these entries; `last` is not included.
        spread: like the built-in `map`; may use threads, which does not change results.
    """

    num_models: int
    size: int
    read: Callable[[int, int], Run]
    spread: Callable[..., Iterator[Any]] = map

    @classmethod
    def of(cls, tensors: Sequence[Tensor], base: Tensor | None = None) -> Runs:
        """Return the runs of tensors in memory."""
        flat = [tensor.reshape(-1) for tensor in tensors]
        flat_base = None if base is None else base.reshape(-1)

        def read(first: int, last: int) -> Run:
            cut_base = None if flat_base is None else flat_base[first:last]
            return Run(first, [tensor[first:last] for tensor in flat], cut_base)

        return cls(len(flat), flat[0].numel(), read)

    def map(self, function: Callable[[Run], T]) -> Iterator[T]:
        """Apply a function to all runs; yield the results in order."""
        return self.spread(lambda bounds: function(self.read(*bounds)), self.bounds)

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """The first and the last entry (exclusive) of each run."""
        return run_bounds(0, self.size)


def run_bounds(first: int, last: int) -> list[tuple[int, int]]:
    """Split the entries from `first`, itself a bound, to `last` (exclusive) into runs."""
    return [(start, min(start + MOST_ENTRIES, last)) for start in range(first, last, MOST_ENTRIES)]


def runs_with(first: int, last: int, size: int) -> list[tuple[int, int]]:
    """Return the runs of a tensor of `size` entries that have any of the entries [first, last)."""
    start = first // MOST_ENTRIES * MOST_ENTRIES
    end = -(-last // MOST_ENTRIES) * MOST_ENTRIES
    return run_bounds(start, min(end, size))
