"""Requests of a job to the main process: help from idle workers, and reports of progress.

Outside of a worker process nobody is idle, and nobody is told of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class IdleWorkers:
    """Asks for the number of idle workers on devices of the same kind."""


@dataclass(frozen=True, slots=True)
class SharedWork:
    """Offers calls `function(item, device)` to idle workers, and asks for the first item to do."""

    function: Callable[..., Any]
    items: Sequence[Any]


@dataclass(frozen=True, slots=True)
class NextItem:
    """Asks for the place of the next item to do; None if all are taken."""


@dataclass(frozen=True, slots=True)
class OthersResults:
    """Asks for the results of other workers by the places of items, when they are finished."""


@dataclass(frozen=True, slots=True)
class Step:
    """Reports progress; there is no answer."""

    done: int
    of: int


Request = IdleWorkers | SharedWork | NextItem | OthersResults | Step

_pipes: list[Connection] = []  # to the main process; empty outside of a worker process


def connect(pipe: Connection) -> None:
    """Make the requests of this process go to the other end of a pipe."""
    _pipes[:] = [pipe]


def idle_workers() -> int:
    """Return how many workers could help at this moment; real jobs have precedence."""
    return _ask(IdleWorkers()) if _pipes else 0


def share(
    items: Sequence[T], here: Callable[[T], R], elsewhere: Callable[[T, str], S]
) -> list[R | S]:
    """Apply a function to items, with the help of idle workers; return the results in order.

    Each process takes one item after the other, so none waits for a slow one. If a worker is lost,
    or its call fails, the item is done here.

    Args:
        items: plain values.
        here: item -> result; in this process.
        elsewhere: (item, device) -> an equal result, maybe in another form, in another worker
            process; it can be pickled, and so can its result, without torch.
    """
    if not _pipes:
        return [here(item) for item in items]
    results: dict[int, R | S] = {}
    place = _ask(SharedWork(elsewhere, items))
    while place is not None:
        results[place] = here(items[place])
        place = _ask(NextItem())
    results |= _ask(OthersResults())
    return [results[place] if place in results else here(item) for place, item in enumerate(items)]


def in_steps(items: Sequence[T]) -> Iterator[T]:
    """Yield the items of a long job, and report each one when it is done."""
    for done, item in enumerate(items, 1):
        yield item
        note_step(done, len(items))


def note_step(done: int, of: int) -> None:
    """Report that a long job has done so many of its steps."""
    for pipe in _pipes:
        pipe.send(Step(done, of))


def _ask(request: Request) -> Any:
    _pipes[0].send(request)
    return _pipes[0].recv()
