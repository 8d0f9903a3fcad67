"""Same-named tensors of all models, gone over a run of entries at a time.

A run's float32 form stays in the cache of a core, and its temporaries take no new memory of the
system. What is measured in runs is summed in their order, so tensors in memory and in files give
the same bits, whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

_RUN = 2**18  # entries: as few as keep the steps of Python cheap beside the arithmetic

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """Some successive entries of the tensors, flattened.

    Attributes:
        start: position of the first entry.
        tensors: M, one a model, in float32 or float64.
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
        read: returns the run from a first to a last entry (not included).
        spread: as the built-in `map`; one that uses threads makes no difference to the result.
    """

    num_models: int
    size: int
    read: Callable[[int, int], Run]
    spread: Callable[..., Iterator[Any]] = map

    @classmethod
    def of(cls, tensors: Sequence[Tensor], base: Tensor | None = None) -> Runs:
        """Go over tensors in memory."""
        flat = [tensor.reshape(-1) for tensor in tensors]
        flat_base = None if base is None else base.reshape(-1)

        def read(first: int, last: int) -> Run:
            cut_base = None if flat_base is None else flat_base[first:last]
            return Run(first, [tensor[first:last] for tensor in flat], cut_base)

        return cls(len(flat), flat[0].numel(), read)

    def map(self, function: Callable[[Run], T]) -> Iterator[T]:
        """Apply a function to every run, and yield the results in order."""
        return self.spread(lambda bounds: function(self.read(*bounds)), self.bounds)

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """The first and the last entry (not included) of each run."""
        return run_bounds(0, self.size)


def run_bounds(first: int, last: int) -> list[tuple[int, int]]:
    """Split the entries from `first`, a bound itself, to `last` into runs."""
    return [(start, min(start + _RUN, last)) for start in range(first, last, _RUN)]
