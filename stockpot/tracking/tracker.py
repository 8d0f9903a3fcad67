"""One pipeline run in a tracking store: the interface for flows and tasks."""

from __future__ import annotations

import base64
import getpass
import json
import logging
import math
import os
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from stockpot.tracking.addresses import checked_uri
from stockpot.tracking.connection import StoreAwayError, must_answer
from stockpot.tracking.outbox import Outbox
from stockpot.tracking.records import Dataset, ModelRecord, Record, Scalar
from stockpot.tracking.registry import ModelRegistry
from stockpot.tracking.store import KEY, PIPELINE, MlflowStore

OUTBOX = "outbox"  # folder in the state of a project, for records that are not sent yet
_log = logging.getLogger("stockpot")


class Tracker:
    """Writes one pipeline run; thread-safe.

    While the store does not answer, everything that is logged is queued on disk and sent later.
    The `log_*` methods, `start_parent`, `finish_parent` and `mark_killed` raise StageFailed if the
    store refuses a record; the record is moved to `outbox/refused`.

    Attributes:
        store: the experiment in the store.
        pipeline: stockpot's own id of the pipeline run; empty before `start_parent`.
    """

    def __init__(
        self, store: MlflowStore, outbox: Outbox, origin: str, tags: Mapping[str, str]
    ) -> None:
        self.pipeline = ""
        self.store = store
        self._outbox = outbox
        self._origin = origin
        self._tags = tags

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
        """Open a store; create the database and the experiment if they are missing.

        Records that earlier runs could not send are sent now.

        Args:
            uri: address of an MLflow server, or `sqlite:////absolute/path.db`.
            experiment_name: MLflow's experiment.
            state_dir: folder for the outbox, the lock and (for a database) the artifacts.
            offline: continue if the server does not answer, and send later.
            tags: tags of every run, e.g. `stockpot.git_commit`.

        Raises:
            InputError: the server does not answer and `offline` is false, or the store cannot be
                used.
            StageFailed: the store refused what an earlier run left in the outbox.
        """
        uri = checked_uri(uri)
        state_dir = state_dir.resolve()
        store = MlflowStore(uri, experiment_name, state_dir)
        outbox = Outbox(store, state_dir / OUTBOX)
        if not offline:
            with must_answer(uri):
                store.refresh()
        if elsewhere := outbox.num_elsewhere():
            _log.warning(
                "%d tracking records wait for another store or experiment; "
                "they are sent when it is opened again",
                elsewhere,
            )
        outbox.send()
        return cls(store, outbox, f"{socket.gethostname()}:{state_dir}", _run_tags(tags))

    @property
    def pending(self) -> int:
        """Number of records that are not yet sent."""
        return len(self._outbox.pending())

    @property
    def parent_run_id(self) -> str | None:
        """MLflow's id of this pipeline's parent run; None until the store has it."""
        run = self.store.known.by_tag[PIPELINE].get(self.pipeline)
        return None if run is None else run.run_id

    @property
    def newest_run_id(self) -> str | None:
        """MLflow's id of the parent run that started last; None if there is none."""
        return next((run.run_id for run in self.store.known.by_tag[PIPELINE].values()), None)

    def run_id(self, key: str) -> str | None:
        """Return MLflow's id of the run of a model, by its content key."""
        run = self.store.model_run(key)
        return None if run is None else run.run_id

    def has_models(self, keys: Iterable[str]) -> bool:
        """Return whether the store has the runs of these models, by content key.

        If it does not answer, it is taken to have them.
        """
        try:
            with self.store.answering():
                return self.store.client is None or all(
                    run is not None and run.status == "FINISHED"
                    for run in (self.store.find(KEY, key) for key in keys)
                )
        except StoreAwayError:
            return True

    def start_parent(
        self,
        name: str,
        params: Mapping[str, Scalar],
        tags: Mapping[str, str],
        pipeline: str | None = None,
        datasets: Sequence[Dataset] = (),
    ) -> None:
        """Start the parent run of this pipeline run; what is logged from now on belongs to it.

        Args:
            name: name in the UI.
            params: flat parameters.
            tags: tags besides those given to `open`.
            pipeline: the `Tracker.pipeline` of a run to continue, e.g. from another process.
            datasets: the data that models are trained and judged on.
        """
        self.pipeline = pipeline or uuid.uuid4().hex
        own = {
            "stockpot.kind": "pipeline",
            PIPELINE: self.pipeline,
            "stockpot.origin": self._origin,
        }
        every = {**self._tags, **tags, **own}
        self._submit("start", name=name, params=dict(params), tags=every, datasets=list(datasets))

    @contextmanager
    def open_parent(self) -> Iterator[None]:
        """End the parent run after the work inside: finished, failed by an error, or killed."""
        status: Literal["FINISHED", "FAILED", "KILLED"] = "KILLED"
        try:
            yield
            status = "FINISHED"
        except Exception:
            status = "FAILED"
            raise
        finally:
            self.finish_parent(status)

    def finish_parent(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End the parent run and send what is pending, even if the store was away just now."""
        self._submit("finish", at_once=True, status=status)
        if self.pending:
            _log.warning(
                "%d tracking records wait; the next run or `stockpot send` sends them",
                self.pending,
            )

    def mark_killed(self, run: str) -> None:
        """End a parent run that a dead process left running.

        Args:
            run: MLflow's id of it, or its `pipeline` if the former was never known.
        """
        self._submit("kill", run=run, status="KILLED")

    def left_running(self) -> tuple[str, ...]:
        """List the parent runs that this project started on this machine and did not end."""
        return tuple(
            run.run_id
            for pipeline, run in self.store.known.by_tag[PIPELINE].items()
            if run.status == "RUNNING" and run.origin == self._origin and pipeline != self.pipeline
        )

    def log_model(self, record: ModelRecord) -> None:
        """Log a model as a child run; one that the store already has is linked instead."""
        own = record.tags  # first in order, too: the UI preserves it
        self._submit("model", **asdict(replace(record, tags={**own, **self._tags, **own})))

    def log_metrics(
        self, key: str, metrics: Mapping[str, float], datasets: Sequence[Dataset] = ()
    ) -> None:
        """Add metrics to the run of a logged model; values it already has change nothing.

        Args:
            key: content key of the model.
            metrics: values by name.
            datasets: the data that they were measured on; what the run already has is skipped.
        """
        self._submit("metrics", key=key, metrics=dict(metrics), datasets=list(datasets))

    def log_parent_metrics(
        self,
        metrics: Mapping[str, float],
        curves: Mapping[str, Sequence[float]] = MappingProxyType({}),
    ) -> None:
        """Add metrics to the parent run, and curves, each of which its page charts by step."""
        self._submit("parent-metrics", metrics=dict(metrics), curves=dict(curves))

    def log_parent_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the parent run."""
        self._submit("parent-tags", tags=dict(tags))

    def log_view(self, metric: str) -> None:
        """Set columns and order of the runs page at `experiment_url`.

        Args:
            metric: the workload's first metric, e.g. `accuracy`.
        """
        self._submit("view", metric=metric)

    def log_text(self, name: str, text: str, *, is_table: bool = False) -> None:
        """Log a text file as an artifact of the parent run.

        MLflow's UI shows SVG as an image and HTML as a page.

        Args:
            name: path among the artifacts, e.g. `report.html` or `plots/barriers.svg`.
            text: content of the file.
            is_table: show it as a table; see `log_table`.
        """
        encoded = base64.b64encode(text.encode()).decode()
        self._submit("artifact", name=name, base64=encoded, table=is_table)

    def log_table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Log a table (`NAME.json`; nan becomes null) as an artifact that the UI shows as one."""
        rows = [
            [None if isinstance(cell, float) and math.isnan(cell) else cell for cell in row]
            for row in zip(*columns.values(), strict=True)
        ]
        text = json.dumps({"columns": list(columns), "data": rows})
        self.log_text(name, text, is_table=True)

    def registry(self, name: str) -> ModelRegistry:
        """Return the registered model `name`, which need not exist yet.

        Unlike the `log_*` methods, its reads and writes wait for the store's answer.

        Raises:
            StageFailed: the store refused what was pending.
        """
        self._outbox.send(at_once=True)
        return ModelRegistry(self.store, name)

    def _submit(self, action: str, /, *, at_once: bool = False, **content: Any) -> None:
        record = Record(action, self.pipeline, content)
        self._outbox.send(record, at_once=at_once)


def _run_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Add those tags that MLflow's UI shows as source and user, and DVC's experiment."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that has no name
        user = str(os.getuid())
    every = {
        **tags,
        "mlflow.source.name": "stockpot",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": user,
        "mlflow.source.git.commit": tags.get("stockpot.git_commit") or None,
        "DVC_EXP_NAME": os.environ.get("DVC_EXP_NAME") or None,
    }
    return {name: value for name, value in every.items() if value is not None}
