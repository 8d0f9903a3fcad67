"""One pipeline run in a tracking store: what flows and tasks call."""

from __future__ import annotations

import base64
import json
import logging
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from stockpot.errors import InputError
from stockpot.tracking.addresses import checked_uri, redacted, without_credentials
from stockpot.tracking.availability import StoreAwayError, probe
from stockpot.tracking.mlflow_store import MlflowStore
from stockpot.tracking.outbox import Outbox
from stockpot.tracking.pipeline_runs import PipelineRun, read_pipeline_run
from stockpot.tracking.recorded_runs import RecordedRun, read_recorded_run
from stockpot.tracking.records import Dataset, ModelRecord, Record, Scalar
from stockpot.tracking.registry import ModelRegistry
from stockpot.tracking.run_tags import origin, run_tags
from stockpot.tracking.sending import Sender

_log = logging.getLogger("stockpot")


class Tracker:
    """Writes one pipeline run; safe over threads.

    While the store does not answer, what is logged is kept and sent later.
    """

    def __init__(
        self, store: MlflowStore, sender: Sender, origin: str, tags: Mapping[str, str]
    ) -> None:
        self.pipeline = ""
        self._store = store
        self._sender = sender
        self._origin = origin
        self._tags = dict(tags)

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
        state_dir = state_dir.resolve()
        store = MlflowStore(uri, experiment_name, state_dir)
        outbox = Outbox(state_dir / "outbox", f"{redacted(uri)} {experiment_name}")
        sender = Sender(store, outbox)
        try:
            store.connect()
        except StoreAwayError as away:
            if not offline:
                raise _does_not_answer(uri, away) from away
            sender.pause(away)
        if elsewhere := sender.elsewhere:
            _log.warning(
                "%d tracking records wait for another store or experiment; "
                "they are sent when it is opened again",
                elsewhere,
            )
        if store.connected:
            sender.flush()
        return cls(store, sender, origin(state_dir), run_tags(tags))

    @property
    def pending(self) -> int:
        """Return the number of records that are not yet sent."""
        return self._sender.pending

    @property
    def experiment_id(self) -> str | None:
        """Return MLflow's id of the experiment; None until the store has answered once."""
        return self._store.experiment_id

    @property
    def parent_run_id(self) -> str | None:
        """Return MLflow's id of the parent run; None while the store has not got it."""
        run = self._store.known.pipelines.get(self.pipeline)
        return None if run is None else run.run_id

    @property
    def newest_run_id(self) -> str | None:
        """Return MLflow's id of the parent run that started last; None if there is none."""
        return next((run.run_id for run in self._store.known.pipelines.values()), None)

    def run_id(self, key: str) -> str | None:
        """Return MLflow's id of the run of a model, by its content key."""
        run = self._store.find_model_run(key)
        return None if run is None else run.run_id

    def model_id(self, key: str) -> str | None:
        """Return MLflow's id of the LoggedModel of a model, by its content key."""
        run = self._store.find_model_run(key)
        return None if run is None else run.model_id

    def start_parent(
        self,
        name: str,
        params: Mapping[str, Scalar],
        tags: Mapping[str, str],
        pipeline: str | None = None,
        datasets: Sequence[Dataset] = (),
    ) -> None:
        """Start the run of this pipeline run; all that is logged from here on belongs to it.

        Args:
            name: shown in the UI.
            params: flat.
            tags: besides those given to `open`.
            pipeline: the `Tracker.pipeline` of a run to go on with, e.g. in another process.
            datasets: what models are trained and judged on.
        """
        self.pipeline = pipeline or uuid.uuid4().hex
        own = {
            "stockpot.kind": "pipeline",
            "stockpot.pipeline": self.pipeline,
            "stockpot.origin": self._origin,
        }
        content = {"name": name, "params": dict(params), "tags": {**self._tags, **tags, **own}}
        self._submit("start", content | {"datasets": [asdict(dataset) for dataset in datasets]})

    def finish_parent(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End the parent run and send what is pending, even if the store was away just now."""
        self._sender.end_pause()
        self._submit("finish", {"status": status})
        if self.pending:
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

    def log_metrics(
        self, key: str, metrics: Mapping[str, float], datasets: Sequence[Dataset] = ()
    ) -> None:
        """Add metrics to the run of a logged model; values it already has change nothing.

        Args:
            key: the model's content key.
            metrics: by name.
            datasets: what they were measured on, as far as the run does not say it yet.
        """
        content = {"key": key, "metrics": dict(metrics)}
        self._submit("metrics", content | {"datasets": [asdict(dataset) for dataset in datasets]})

    def log_parent_metrics(
        self,
        metrics: Mapping[str, float],
        curves: Mapping[str, Sequence[float]] = MappingProxyType({}),
    ) -> None:
        """Add metrics to the parent run; its page draws a chart of each curve, by step."""
        listed = {name: list(curve) for name, curve in curves.items()}
        self._submit("parent-metrics", {"metrics": dict(metrics), "curves": listed})

    def log_parent_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the parent run."""
        self._submit("parent-tags", {"tags": dict(tags)})

    def log_view(self, metric: str) -> None:
        """Set the columns and the order that `experiment_url` opens the runs page with.

        Args:
            metric: the workload's first one, e.g. `accuracy`.
        """
        self._submit("view", {"metric": metric})

    def log_text(self, name: str, text: str) -> None:
        """Put a text file, e.g. `report.html` or `plots/barriers.svg`, into the parent's artifacts.

        MLflow's UI shows SVG as an image and HTML as a page.
        """
        self._log_artifact(name, text.encode())

    def log_table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Put a table (`NAME.json`) into the parent run's artifacts; the UI shows it as one."""
        rows = [[_or_null(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
        text = json.dumps({"columns": list(columns), "data": rows})
        self._log_artifact(name, text.encode(), table=True)

    def flush(self) -> None:
        """Send what is pending, unless the store was away less than 30 s ago.

        Raises:
            StageFailed: the store refused a record; it is kept in `outbox/refused`.
        """
        self._sender.flush()

    def registry(self, name: str) -> ModelRegistry:
        """Return the registered model called `name`, which need not exist yet.

        Unlike what is logged, its reads and writes wait for the store's answer.

        Raises:
            StageFailed: the store does not answer, or refused what was pending.
        """
        self._sender.end_pause()
        self._sender.flush()
        return ModelRegistry(self._store, name)

    def recorded_run(self, run_id: str) -> RecordedRun:
        """Read what was recorded of a model.

        Args:
            run_id: MLflow's id of its run, or the id's first characters.

        Raises:
            InputError: no run of this experiment has this id, several do, or it is not a model's.
            StageFailed: the store does not answer.
        """
        return read_recorded_run(self._store, run_id)

    def pipeline_run(self, run_id: str) -> PipelineRun:
        """Read what was recorded of a whole pipeline run, of any experiment in the store.

        Raises:
            InputError: not one parent run has an id that starts so.
            StageFailed: the store does not answer.
        """
        return read_pipeline_run(self._store, run_id)

    def _log_artifact(self, name: str, content: bytes, *, table: bool = False) -> None:
        encoded = base64.b64encode(content).decode()
        self._submit("artifact", {"name": name, "base64": encoded, "table": table})

    def _submit(self, action: str, content: Mapping[str, Any]) -> None:
        self._sender.submit(Record(action, self.pipeline, content))


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
