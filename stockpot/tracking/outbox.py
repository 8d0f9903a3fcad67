"""The queue of writes that are not yet in the tracking store: one file per record, in order."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from stockpot.errors import StageFailed
from stockpot.storage.atomic_files import write_text
from stockpot.storage.locks import file_lock
from stockpot.tracking.addresses import redacted
from stockpot.tracking.connection import StoreAwayError
from stockpot.tracking.records import Record
from stockpot.tracking.store import MlflowStore
from stockpot.tracking.writes import ACTIONS, give_up

_REFUSED = "refused"  # folder for the records that the store refused
_PAUSE_SECONDS = 30.0  # the store is not contacted for this long after it did not answer
_log = logging.getLogger("stockpot")


@dataclass(frozen=True, slots=True)
class Waiting:
    """Numbers of records that are not in the store that they were written for.

    Attributes:
        here: records for this store and experiment.
        elsewhere: records for another store or experiment.
        refused: records that a store has refused; they are not sent again.
    """

    here: int
    elsewhere: int
    refused: int


def count_waiting(folder: Path, uri: str, experiment: str) -> Waiting:
    """Count the records in an outbox, without opening a store.

    Args:
        folder: of the outbox; it need not exist.
        uri: address of the store, as `addresses.checked_uri` returns it.
        experiment: MLflow's experiment.
    """
    own = _destination(uri, experiment)
    destinations = [_destination_of(path) for path in _files(folder)]
    here = destinations.count(own)
    return Waiting(here, len(destinations) - here, len([*(folder / _REFUSED).glob("*.json")]))


class Outbox:
    """A queue of records on disk for one store; records for other destinations stay in it.

    Files are named `<sequence>-<destination>-<record>.json`. One thread of one process sends at a
    time, in the order of the sequence. While the store is away the files stay; they are sent after
    a pause, at the end of the run or when the store is opened again.
    """

    def __init__(self, store: MlflowStore, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._destination = _destination(store.uri, store.experiment)
        self._threads = threading.Lock()
        self._next_try = 0.0  # 0 while the store answers
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, record: Record) -> Path:
        """Append a record; once this returns, the record survives the process."""
        number = 1 + max((_sequence(path) for path in _files(self._folder)), default=0)
        path = self._folder / f"{number:06d}-{self._destination}-{record.id[:8]}.json"
        write_text(path, record.to_text())
        return path

    def pending(self) -> list[Path]:
        """List the records of this destination, oldest first."""
        files = _files(self._folder)
        return [path for path in files if _destination_of(path) == self._destination]

    def num_elsewhere(self) -> int:
        """Count the records for another store or experiment."""
        return len(_files(self._folder)) - len(self.pending())

    def send(self, record: Record | None = None, *, at_once: bool = False) -> None:
        """Append a record, then send everything that is pending.

        Args:
            record: the record to append, if any.
            at_once: contact the store even if it was away less than 30 s ago.

        Raises:
            StageFailed: the store refused a record; it is moved to `outbox/refused`.
        """
        with self._threads, file_lock(self._folder / ".lock"):
            fresh = [] if record is None else [self.put(record)]
            if time.monotonic() < self._next_try and not at_once:
                return
            paths = self.pending()
            refusals: list[str] = []
            try:
                # An older record may have been tried before, here or by a process that died.
                if paths not in ([], fresh) or self._store.client is None:
                    self._store.refresh()
                for path in paths:
                    refusals += self._send_file(path)
                self._next_try = 0.0
            except StoreAwayError as away:
                if not self._next_try:
                    _log.warning(
                        "the tracking store %s does not answer (%s); "
                        "records are queued and sent later",
                        redacted(self._store.uri),
                        away,
                    )
                self._next_try = time.monotonic() + _PAUSE_SECONDS
            if refusals:
                raise StageFailed("; ".join(refusals))

    def _send_file(self, path: Path) -> list[str]:
        """Send one record; move it out of the queue if it is refused, and return the refusal."""
        record = None
        try:
            record = Record.from_text(path.read_text(encoding="utf-8"))
            with self._store.answering():
                ACTIONS[record.action](self._store, record)
        except StoreAwayError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, it must not block the queue)
            reason = " ".join(str(error).split())[:500]
            if record is not None:
                with self._store.answering():
                    give_up(self._store, record, reason)
            title = "a record" if record is None else record.title
            refused = self._folder / _REFUSED / path.name
            refused.parent.mkdir(exist_ok=True)
            path.rename(refused)
            return [f"tracking: the store refused {title}: {reason}; it is stored in {refused}"]
        path.unlink()
        return []


def _files(folder: Path) -> list[Path]:
    """List the records in an outbox, oldest first."""
    return sorted(folder.glob("[0-9]*-*-*.json"), key=_sequence)


def _sequence(path: Path) -> int:
    return int(path.name.split("-")[0])


def _destination(uri: str, experiment: str) -> str:
    """Name a store and an experiment in 8 hex digits; the password does not count."""
    return hashlib.sha256(f"{redacted(uri)} {experiment}".encode()).hexdigest()[:8]


def _destination_of(path: Path) -> str:
    return path.name.split("-")[1]
