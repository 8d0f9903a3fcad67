"""Items of a job's work that idle workers do too; in the main process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stockpot.workers.inside import (
    IdleWorkers,
    NextItem,
    OthersResults,
    Request,
    SharedWork,
    Step,
)


class ShareEnded(Exception):
    """All items are taken, or the job has ended."""


class Share:
    """Shared work in progress: which items are taken, and the results of idle workers.

    Attributes:
        function: (item, device) -> result.
        items: its arguments.
    """

    def __init__(self, work: SharedWork) -> None:
        self.function, self.items = work.function, work.items
        self._next = 0
        self._results: dict[int, Any] = {}
        self._lent: set[int] = set()
        self._changed = threading.Condition()

    def take(self) -> int | None:
        """Return the place of an item that nobody has taken; None if there is none left."""
        with self._changed:
            if self._next >= len(self.items):
                return None
            self._next += 1
            return self._next - 1

    @contextmanager
    def lent(self) -> Iterator[int]:
        """Take an item for an idle worker, which has it until it has ended or failed.

        Raises:
            ShareEnded: there is none left.
        """
        with self._changed:
            place = self.take()
            if place is None:
                raise ShareEnded
            self._lent.add(place)
        try:
            yield place
        finally:
            with self._changed:
                self._lent.discard(place)
                self._changed.notify_all()

    def keep(self, place: int, result: Any) -> None:
        """Note the result of an idle worker."""
        self._results[place] = result

    def results(self) -> dict[int, Any]:
        """Wait for the idle workers, and return their results by place."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lent)
            return dict(self._results)

    def check_open(self) -> None:
        """Raise an error if there is nothing left to do.

        Raises:
            ShareEnded: always in that case.
        """
        if self._next >= len(self.items):
            raise ShareEnded

    def end(self) -> None:
        """Give out no more items."""
        with self._changed:
            self._next = len(self.items)


class Lending:
    """Answers the requests of one running job."""

    def __init__(
        self,
        count_idle: Callable[[], int],
        help_with: Callable[[Share], None],
        on_step: Callable[[int, int], None] | None,
    ) -> None:
        """Answer by what a pool can do.

        Args:
            count_idle: returns the number of workers that could help.
            help_with: makes idle workers do items of a share, without waiting for them.
            on_step: called with the steps that are done, and their number.
        """
        self._count_idle, self._help_with, self._on_step = count_idle, help_with, on_step
        self._share = Share(SharedWork(print, ()))  # an empty one

    def __enter__(self) -> Lending:
        return self

    def __exit__(self, *_error: object) -> None:
        self._share.end()

    def answer(self, request: Request) -> object:
        """Do what is asked for and return the answer."""
        match request:
            case IdleWorkers():
                return self._count_idle()
            case SharedWork():
                self._share = Share(request)
                first = self._share.take()
                self._help_with(self._share)
                return first
            case NextItem():
                return self._share.take()
            case OthersResults():
                return self._share.results()
            case Step(done, of):
                if self._on_step:
                    self._on_step(done, of)
                return None


def helps_only(request: Request) -> object:
    """Answer the requests of a worker that helps a job: it gets no help itself."""
    match request:
        case IdleWorkers():
            return 0
        case OthersResults():
            return {}
        case _:
            return None
