"""Sending records to a store: each is first a file in the outbox, so that none is lost."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from stockpot.errors import StageFailed
from stockpot.tracking.addresses import redacted
from stockpot.tracking.availability import StoreAwayError
from stockpot.tracking.mlflow_store import MlflowStore
from stockpot.tracking.outbox import Outbox
from stockpot.tracking.records import Record

_PAUSE_SECONDS = 30.0  # after the store did not answer, it is left alone for so long
_log = logging.getLogger("stockpot")


class Sender:
    """Puts records into the outbox and sends them in order; safe over threads.

    While the store does not answer, the files stay: they are sent after the pause, at the end of
    the run or when a store is opened again.
    """

    def __init__(self, store: MlflowStore, outbox: Outbox) -> None:
        self._store = store
        self._outbox = outbox
        self._next_try = 0.0
        self._warned = False

    @property
    def pending(self) -> int:
        """Return the number of records that are not yet sent."""
        return len(self._outbox.pending())

    @property
    def elsewhere(self) -> int:
        """Return the number of records that wait for another store or experiment."""
        return self._outbox.num_elsewhere()

    def submit(self, record: Record) -> None:
        """Keep a record and send what is pending.

        Raises:
            StageFailed: the store refused a record; it is kept in `outbox/refused`.
        """
        with self._outbox.held():
            self._send_pending(fresh=self._outbox.put(record))

    def flush(self) -> None:
        """Send what is pending, unless the store was away less than 30 s ago.

        Raises:
            StageFailed: the store refused a record; it is kept in `outbox/refused`.
        """
        with self._outbox.held():
            self._send_pending(fresh=None)

    def end_pause(self) -> None:
        """Try the store again with the next record, even if it was away just now."""
        self._next_try = 0.0

    def pause(self, away: StoreAwayError) -> None:
        """Leave the store alone for a while; warn once."""
        if not self._warned:
            _log.warning(
                "the tracking store %s does not answer (%s); records are kept and sent later",
                redacted(self._store.uri),
                away,
            )
        self._warned = True
        self._next_try = time.monotonic() + _PAUSE_SECONDS

    def _send_pending(self, fresh: Path | None) -> None:
        """Send records in order until all are sent or the store is away."""
        if time.monotonic() < self._next_try:
            return
        paths = self._outbox.pending()
        refusals: list[str] = []
        try:
            # An older record may have been tried, here or by a process that died: look.
            if paths not in ([], [fresh]) or not self._store.connected:
                self._store.refresh()
            for path in paths:
                self._send(path, refusals)
            self._warned = False
        except StoreAwayError as away:
            self.pause(away)
        if refusals:
            raise StageFailed("; ".join(refusals))

    def _send(self, path: Path, refusals: list[str]) -> None:
        """Send one record; one that the store refuses goes out of the others' way."""
        record = None
        try:
            record = Record.from_text(path.read_text(encoding="utf-8"))
            self._store.send(record)
        except StoreAwayError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, it must not block the queue)
            reason = " ".join(str(error).split())[:500]
            if record is not None:
                self._store.give_up(record, reason)
            what = "a record" if record is None else record.title
            kept = self._outbox.refuse(path)
            refusals.append(f"tracking: the store refused {what}: {reason}; kept in {kept}")
        else:
            path.unlink()
