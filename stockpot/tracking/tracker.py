"""One pipeline run in a tracking store: what flows and tasks call."""

from __future__ import annotations

import base64
import io
import json
import logging
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stockpot.errors import InputError, StageFailed
from stockpot.tracking.addresses import checked_uri, redacted, without_credentials
from stockpot.tracking.availability import StoreAwayError, probe
from stockpot.tracking.mlflow_store import MlflowStore
from stockpot.tracking.outbox import Outbox
from stockpot.tracking.records import ModelRecord, Record, Scalar
from stockpot.tracking.run_tags import origin, run_tags

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAUSE_SECONDS = 30.0  # after the store did not answer, it is left alone for so long
_log = logging.getLogger("stockpot")


class Tracker:
    """Writes one pipeline run; safe over threads.

    Every write is first a file in the outbox. While the store does not answer, the files stay:
    they are sent after the pause, at the end of the run or when a store is opened again.
    """

    def __init__(
        self, store: MlflowStore, outbox: Outbox, origin: str, tags: Mapping[str, str]
    ) -> None:
        self.pipeline = ""
        self._store = store
        self._outbox = outbox
        self._origin = origin
        self._tags = dict(tags)
        self._next_try = 0.0
        self._warned = False

    @classmethod
    def open(
        cls,
        uri: str,
        experiment_name: str,
        state_dir: Path,
        *,
        offline: bool,
        tags: Mapping[str, str],
    ) -> Tracker:
        """Open a store, making the database and the experiment where they are missing.

        What earlier runs could not send is sent now.

        Args:
            uri: of an MLflow server, or `sqlite:////absolute/path.db`.
            experiment_name: MLflow's experiment.
            state_dir: holds the outbox, the lock and (for a database) the artifacts.
            offline: go on when the server does not answer, and send later.
            tags: put on every run, e.g. `stockpot.git_commit`.

        Raises:
            InputError: the server does not answer and `offline` is false, or the store cannot be
                used.
            StageFailed: the store refused what an earlier run left in the outbox.
        """
        uri = without_credentials(checked_uri(uri))
        state_dir = state_dir.absolute()
        store = MlflowStore(uri, experiment_name, state_dir)
        outbox = Outbox(state_dir / "outbox", f"{redacted(uri)} {experiment_name}")
        tracker = cls(store, outbox, origin(state_dir), run_tags(tags))
        try:
            store.connect()
        except StoreAwayError as away:
            if not offline:
                raise _does_not_answer(uri, away) from away
            tracker._pause(away)
        if elsewhere := outbox.num_elsewhere():
            _log.warning(
                "%d tracking records wait for another store or experiment; "
                "they are sent when it is opened again",
                elsewhere,
            )
        if store.connected:
            tracker.flush()
        return tracker

    @property
    def pending(self) -> int:
        """Return the number of records that are not yet sent."""
        return len(self._outbox.pending())

    @property
    def experiment_id(self) -> str | None:
        """Return MLflow's id of the experiment; None until the store has answered once."""
        return self._store.experiment_id

    @property
    def parent_run_id(self) -> str | None:
        """Return MLflow's id of the parent run; None while the store has not got it."""
        run = self._store.known.pipelines.get(self.pipeline)
        return None if run is None else run.run_id

    def run_id(self, key: str) -> str | None:
        """Return MLflow's id of the run of a model, by its content key."""
        run = self._store.known.models.get(key)
        return None if run is None else run.run_id

    def model_id(self, key: str) -> str | None:
        """Return MLflow's id of the LoggedModel of a model, by its content key."""
        run = self._store.known.models.get(key)
        return None if run is None else run.model_id

    def start_parent(
        self,
        name: str,
        params: Mapping[str, Scalar],
        tags: Mapping[str, str],
        pipeline: str | None = None,
    ) -> None:
        """Start the run of this pipeline run; all that is logged from here on belongs to it.

        Args:
            name: shown in the UI.
            params: flat.
            tags: besides those given to `open`.
            pipeline: the `Tracker.pipeline` of a run to go on with, e.g. in another process.
        """
        self.pipeline = pipeline or uuid.uuid4().hex
        own = {
            "stockpot.kind": "pipeline",
            "stockpot.pipeline": self.pipeline,
            "stockpot.origin": self._origin,
        }
        content = {"name": name, "params": dict(params), "tags": {**self._tags, **tags, **own}}
        self._submit("start", content)

    def finish_parent(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End the parent run and send what is pending, even if the store was away just now."""
        self._next_try = 0.0
        self._submit("finish", {"status": status})
        if self._outbox.pending():
            _log.warning("%d tracking records are not sent; the next run sends them", self.pending)

    def mark_killed(self, run: str) -> None:
        """End a parent run that a dead process left running.

        Args:
            run: its `parent_run_id`, or its `pipeline` where the store never told the former.
        """
        self._submit("kill", {"run": run, "status": "KILLED"})

    def left_running(self) -> tuple[str, ...]:
        """Return the parent runs that this project started on this machine and did not end."""
        return tuple(
            run.run_id
            for pipeline, run in self._store.known.pipelines.items()
            if run.status == "RUNNING" and run.origin == self._origin and pipeline != self.pipeline
        )

    def log_model(self, record: ModelRecord) -> None:
        """Log a model as a child run; one that the store already has is linked instead."""
        own = record.tags  # first in order, too: the UI keeps it
        self._submit("model", {**record.to_json(), "tags": {**own, **self._tags, **own}})

    def link_model(self, key: str) -> bool:
        """Link a model that an earlier pipeline run logged.

        Returns:
            False if the store does not know the key, or does not answer: call `log_model`.
        """
        if self.run_id(key) is None:
            return False
        self._submit("link", {"key": key})
        return True

    def log_metrics(self, key: str, metrics: Mapping[str, float]) -> None:
        """Add metrics to the run of a logged model; values it already has change nothing."""
        self._submit("metrics", {"key": key, "metrics": dict(metrics)})

    def log_parent_metrics(self, metrics: Mapping[str, float]) -> None:
        """Add metrics to the parent run."""
        self._submit("parent-metrics", {"metrics": dict(metrics)})

    def log_view(self, metric: str) -> None:
        """Set the columns and the order that `experiment_url` opens the runs page with.

        Args:
            metric: the workload's first one, e.g. `accuracy`.
        """
        self._submit("view", {"metric": metric})

    def log_text(self, name: str, text: str) -> None:
        """Put a text file, e.g. `report.html`, into the parent run's artifacts."""
        self._log_artifact(name, text.encode())

    def log_table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Put a table (`NAME.json`) into the parent run's artifacts; the UI shows it as one."""
        rows = [[_or_null(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
        text = json.dumps({"columns": list(columns), "data": rows})
        self._log_artifact(name, text.encode(), table=True)

    def log_figure(self, name: str, figure: Figure) -> None:
        """Put a matplotlib figure into the parent run's artifacts; the suffix is the format."""
        image = io.BytesIO()
        figure.savefig(image, format=Path(name).suffix.removeprefix("."))
        self._log_artifact(name, image.getvalue())

    def flush(self) -> None:
        """Send what is pending, unless the store was away less than 30 s ago.

        Raises:
            StageFailed: the store refused a record; it is kept in `outbox/refused`.
        """
        with self._outbox.held():
            self._send_pending(fresh=None)

    def _log_artifact(self, name: str, content: bytes, *, table: bool = False) -> None:
        encoded = base64.b64encode(content).decode()
        self._submit("artifact", {"name": name, "base64": encoded, "table": table})

    def _submit(self, action: str, content: Mapping[str, Any]) -> None:
        record = Record(action, self.pipeline, content)
        with self._outbox.held():
            self._send_pending(fresh=self._outbox.put(record))

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
            self._pause(away)
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

    def _pause(self, away: StoreAwayError) -> None:
        if not self._warned:
            _log.warning(
                "the tracking store %s does not answer (%s); records are kept and sent later",
                redacted(self._store.uri),
                away,
            )
        self._warned = True
        self._next_try = time.monotonic() + _PAUSE_SECONDS


def _or_null(cell: Any) -> Any:
    """Return a table's cell as JSON has it: without nan."""
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def check_answers(uri: str) -> None:
    """Look whether a store is there, without opening it.

    Raises:
        InputError: it does not answer, or `uri` is not that of a store.
    """
    uri = without_credentials(checked_uri(uri))
    try:
        probe(uri)
    except StoreAwayError as away:
        raise _does_not_answer(uri, away) from away


def _does_not_answer(uri: str, away: StoreAwayError) -> InputError:
    return InputError(
        f"track.uri {redacted(uri)}: the server must answer, got {str(away)!r}; "
        "start it, correct the address, or set track.offline: true to send later"
    )
