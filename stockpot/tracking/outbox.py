"""Writes that are not yet in the tracking store: a file each, in order, kept until sent."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stockpot.storage.atomic_files import write_text
from stockpot.storage.locks import file_lock
from stockpot.tracking.records import Record


class Outbox:
    """A queue of records on disk for one destination; other destinations' records stay in it.

    A file is named `<sequence>-<destination>-<record>.json`. All methods but `pending` are called
    with `held()`; so one process at a time sends, and the order is the order of the sequence.
    """

    def __init__(self, folder: Path, destination: str) -> None:
        self._folder = folder
        self._destination = hashlib.sha256(destination.encode()).hexdigest()[:8]
        self._threads = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other threads and processes out."""
        with self._threads, file_lock(self._folder / ".lock"):
            yield

    def put(self, record: Record) -> Path:
        """Add a record at the end; once this returns, it survives the process."""
        number = 1 + max((_sequence(path) for path in self._files()), default=0)
        path = self._folder / f"{number:06d}-{self._destination}-{record.id[:8]}.json"
        write_text(path, record.to_text())
        return path

    def pending(self) -> list[Path]:
        """List the records of this destination, oldest first."""
        return [path for path in self._files() if path.name.split("-")[1] == self._destination]

    def num_elsewhere(self) -> int:
        """Count the records that wait for another store or experiment."""
        return len(self._files()) - len(self.pending())

    def refuse(self, path: Path) -> Path:
        """Take a record out of the queue without losing it; return where it is kept."""
        kept = self._folder / "refused" / path.name
        kept.parent.mkdir(exist_ok=True)
        return path.rename(kept)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*-*-*.json"), key=_sequence)


def _sequence(path: Path) -> int:
    return int(path.name.split("-")[0])
