"""One experiment in an MLflow store: records in, runs out; each record's effect happens once.

Every write may be tried again after it went through and the answer was lost. So runs carry the id
of the record that made them, metrics the record's own time, and what is there is looked up first.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from stockpot.errors import InputError, StageFailed
from stockpot.storage.locks import file_lock
from stockpot.tracking.addresses import is_server, redacted
from stockpot.tracking.artifacts import put_artifact, show_as_table
from stockpot.tracking.availability import StoreAwayError, explain, is_away, probe
from stockpot.tracking.connection import (
    find_experiment,
    open_client,
    prepare_mlflow,
    whole_database,
)
from stockpot.tracking.known_runs import KnownRun, KnownRuns, look_up, read_runs
from stockpot.tracking.model_runs import ModelRuns, dataset_input
from stockpot.tracking.points import new_points, param_objects, points
from stockpot.tracking.records import Dataset, ModelRecord, Record
from stockpot.tracking.runs_view import VIEW_TAG, runs_view

T = TypeVar("T")


class MlflowStore:
    """A store that is connected on first use, and again after it did not answer."""

    def __init__(self, uri: str, experiment_name: str, state_dir: Path) -> None:
        self.uri = uri
        self.known = KnownRuns()
        self.experiment_id: str | None = None
        self._experiment_name = experiment_name
        self._artifacts = None if is_server(uri) else state_dir / "mlartifacts"
        self._lock = state_dir / "mlflow.lock"
        self._client: Any = None
        self._actions = {
            "start": self._start,
            "finish": self._finish,
            "kill": self._kill,
            "model": self._model,
            "metrics": self._metrics,
            "parent-metrics": self._parent_metrics,
            "parent-tags": self._parent_tags,
            "artifact": self._artifact,
            "view": self._view,
        }

    @property
    def connected(self) -> bool:
        """Say whether the store answered last time."""
        return self._client is not None

    def connect(self) -> None:
        """Open the store, make it and the experiment where they are missing, read what is there.

        Raises:
            StoreAwayError: it does not answer.
            InputError: it answers, but cannot be used.
        """
        prepare_mlflow()
        try:
            probe(self.uri)
            # Two processes that make the same database at once break each other's migrations.
            with file_lock(self._lock), whole_database(self.uri):
                client = open_client(self.uri)
                self.experiment_id = find_experiment(client, self._experiment_name, self._artifacts)
            self.known = read_runs(client, self.experiment_id)
        except (InputError, StoreAwayError):
            raise
        except Exception as error:
            if is_away(error):
                raise StoreAwayError(explain(error)) from error
            raise InputError(
                f"track.uri {redacted(self.uri)}: cannot be used ({explain(error)}); "
                "correct the address or the credentials"
            ) from error
        self._client = client

    def refresh(self) -> None:
        """Read again what the store has, after another process may have written to it."""
        if not self.connected:
            self.connect()
            return
        try:
            self.known = read_runs(self._client, self._experiment_id())
        except Exception as error:
            self._raise_if_away(error)
            raise

    def send(self, record: Record) -> None:
        """Write a record.

        Raises:
            StoreAwayError: the store did not answer; whether the record went through is not known.
            Exception: the store refused the record.
        """
        try:
            self._actions[record.action](record)
        except Exception as error:
            self._raise_if_away(error)
            raise

    def ask(self, question: Callable[[Any, str], T]) -> T:
        """Return what the store answers; what it does must be right to do again.

        Args:
            question: is given MLflow's client and the experiment's id.

        Raises:
            StageFailed: the store does not answer.
        """
        try:
            if not self.connected:
                self.connect()
            return question(self._client, self._experiment_id())
        except Exception as error:
            if not isinstance(error, StoreAwayError) and not is_away(error):
                raise
            self._client = None
            why = str(error) if isinstance(error, StoreAwayError) else explain(error)
            raise StageFailed(
                f"the tracking store {redacted(self.uri)} does not answer ({why}); "
                "try again when it does"
            ) from error

    def find_model_run(self, key: str) -> KnownRun | None:
        """Return the run of a model by its content key, whatever its age; None if there is none.

        Raises:
            StageFailed: an old run was looked for, and the store does not answer.
        """
        if key not in self.known.models and not self.known.is_all:
            self.ask(lambda _client, _experiment: self._look_up("stockpot.key", key))
        return self.known.models.get(key)

    def give_up(self, record: Record, reason: str) -> None:
        """End the half-written run of a record that the store refused.

        Raises:
            StoreAwayError: the store did not answer.
        """
        run = self.known.by_record.get(record.id)
        if record.action != "model" or run is None or run.status != "RUNNING":
            return
        try:
            self._models().give_up(run, f"not logged whole: {reason}")
        except Exception as error:
            self._raise_if_away(error)
            raise

    def _raise_if_away(self, error: Exception) -> None:
        if is_away(error):
            self._client = None  # so that what is known is read again before the next record
            raise StoreAwayError(explain(error)) from error

    def _experiment_id(self) -> str:
        assert self.experiment_id is not None, "send() and refresh() come after connect()"
        return self.experiment_id

    def _models(self) -> ModelRuns:
        return ModelRuns(self._client, self._experiment_id(), self.known)

    def _parent(self, record: Record) -> KnownRun:
        if record.pipeline not in self.known.pipelines:
            self._look_up("stockpot.pipeline", record.pipeline)
        try:
            return self.known.pipelines[record.pipeline]
        except KeyError:
            raise LookupError(f"its pipeline run {record.pipeline} is not in the store") from None

    def _model_run(self, key: str) -> KnownRun:
        if key not in self.known.models:
            self._look_up("stockpot.key", key)
        try:
            return self.known.models[key]
        except KeyError:
            raise LookupError(f"no model with key {key} is in the store") from None

    def _look_up(self, tag: str, value: str) -> None:
        look_up(self._client, self._experiment_id(), self.known, tag, value)

    def _start(self, record: Record) -> None:
        self._look_up("stockpot.pipeline", record.pipeline)  # another process may have begun it
        run = self.known.pipelines.get(record.pipeline)
        if run is None:
            tags = {**record.content["tags"], "stockpot.record": record.id}
            made = self._client.create_run(
                self._experiment_id(),
                start_time=record.time_ms,
                tags=tags,
                run_name=record.content["name"],
            )
            run = KnownRun(made.info.run_id, origin=tags["stockpot.origin"])
            self.known.add(run, tags)
        elif run.status != "RUNNING":
            self._client.update_run(run.run_id, status="RUNNING")
            run.status = "RUNNING"
        self._client.log_batch(run.run_id, params=param_objects(record.content["params"]))
        self._add_datasets(run, record)

    def _finish(self, record: Record) -> None:
        self._terminate(self._parent(record), record)

    def _kill(self, record: Record) -> None:
        """End a run that its process left; the content names it by MLflow's id or by ours."""
        name = record.content["run"]
        run = self.known.pipelines.get(name, KnownRun(name))
        for other in self.known.pipelines.values():
            if other.run_id == run.run_id:
                run = other
        if run.status == "RUNNING":
            self._terminate(run, record)

    def _terminate(self, run: KnownRun, record: Record) -> None:
        status = record.content["status"]
        self._client.set_terminated(run.run_id, status, end_time=record.time_ms)
        run.status = status

    def _model(self, record: Record) -> None:
        model = ModelRecord.from_json(record.content)
        for key in model.inputs:
            self._model_run(key)
        parent = self._parent(record)
        if not self.known.is_all:
            self._look_up("stockpot.record", record.id)
            self._look_up("stockpot.key", model.key)
        models = self._models()
        earlier = models.already_logged(model, record, parent)
        if earlier is None:
            models.log(model, record, parent)
        else:
            models.link(earlier, parent)
            self._add_metrics(earlier, model.metrics, record)

    def _metrics(self, record: Record) -> None:
        run = self._model_run(record.content["key"])
        self._add_datasets(run, record)
        self._add_metrics(run, record.content["metrics"], record)

    def _parent_metrics(self, record: Record) -> None:
        content = record.content
        self._add_metrics(self._parent(record), content["metrics"], record, content["curves"])

    def _parent_tags(self, record: Record) -> None:
        run = self._parent(record)
        for name, value in record.content["tags"].items():
            self._client.set_tag(run.run_id, name, value)

    def _add_metrics(
        self,
        run: KnownRun,
        metrics: Mapping[str, float],
        record: Record,
        curves: Mapping[str, Sequence[float]] = MappingProxyType({}),
    ) -> None:
        changed = new_points(run.metrics, metrics)
        if changed or curves:
            new = points(changed, curves, record.time_ms, run.model_id)
            self._client.log_batch(run.run_id, metrics=new)
            run.metrics.update(changed)

    def _add_datasets(self, run: KnownRun, record: Record) -> None:
        datasets = [dataset_input(Dataset(**values)) for values in record.content["datasets"]]
        if datasets:
            self._client.log_inputs(run.run_id, datasets=datasets)

    def _view(self, record: Record) -> None:
        view = runs_view(record.content["metric"])
        if self._client.get_experiment(self._experiment_id()).tags.get(VIEW_TAG) != view:
            self._client.set_experiment_tag(self._experiment_id(), VIEW_TAG, view)

    def _artifact(self, record: Record) -> None:
        run, name = self._parent(record), record.content["name"]
        put_artifact(self._client, run.run_id, name, base64.b64decode(record.content["base64"]))
        if record.content["table"]:
            show_as_table(self._client, run.run_id, name)
