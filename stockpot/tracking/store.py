"""An experiment in an MLflow store: the connection, and the runs that it is known to contain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stockpot.errors import InputError, StageFailed
from stockpot.tracking.addresses import redacted
from stockpot.tracking.connection import StoreAwayError, connect, explain, is_away

KEY = "stockpot.key"
PIPELINE = "stockpot.pipeline"
RECORD = "stockpot.record"
NEWEST = 1000  # runs that are read at once; an older one is looked up when it is needed

_MISSING = {
    KEY: "no model with key {} is in the store",
    PIPELINE: "its pipeline run {} is not in the store",
}


@dataclass(slots=True)
class KnownRun:
    """One run in the store.

    Attributes:
        run_id: MLflow's id.
        status: RUNNING while the run is being written, then FINISHED, FAILED or KILLED.
        origin: machine and folder that a pipeline run was started in.
        parent_id: MLflow's id of the pipeline run that created it; empty for a pipeline run.
        model_id: MLflow's id of the run's LoggedModel, if it has one.
        metrics: the latest value of each metric.
    """

    run_id: str
    status: str = "RUNNING"
    origin: str = ""
    parent_id: str = ""
    model_id: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class KnownRuns:
    """Runs of an experiment by tag and the tag's value.

    Attributes:
        is_all: whether the experiment had no other runs when they were read.
        by_tag: pipeline runs by `PIPELINE`; runs by the `RECORD` that created them, complete or
            not; complete runs of models by content `KEY`, a finished one before a failed one.
    """

    is_all: bool = True
    by_tag: dict[str, dict[str, KnownRun]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, run: KnownRun, tags: Mapping[str, str]) -> None:
        """Add a run under its tags; of two finished runs of a key the first one stays."""
        for tag in (PIPELINE, RECORD):
            if value := tags.get(tag):
                self.by_tag[tag].setdefault(value, run)
        key = tags.get(KEY)
        if key and run.status != "RUNNING":
            earlier = self.by_tag[KEY].get(key)
            if earlier is None or (earlier.status, run.status) == ("FAILED", "FINISHED"):
                self.by_tag[KEY][key] = run


class MlflowStore:
    """A store that is connected on first use, and again after it did not answer."""

    def __init__(self, uri: str, experiment_name: str, state_dir: Path) -> None:
        self.uri = uri
        self.known = KnownRuns()
        self.experiment_id: str | None = None  # until the store has answered once
        self.client: Any = None  # None while the store is away
        self.experiment = experiment_name
        self._state_dir = state_dir

    def refresh(self) -> None:
        """Connect if necessary, and read the runs: another process may have written some.

        Raises:
            StoreAwayError: the store does not answer.
            InputError: it answers, but cannot be used.
        """
        client = self.client
        try:
            with self.answering():
                if client is None:
                    client, self.experiment_id = connect(self.uri, self.experiment, self._state_dir)
                known = KnownRuns()
                known.is_all = self._read(client, known)
        except (InputError, StoreAwayError):
            raise
        except Exception as error:
            raise InputError(
                f"track.uri {redacted(self.uri)}: cannot be used ({explain(error)}); "
                "correct the address or the credentials"
            ) from error
        self.client, self.known = client, known

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Turn a lost connection into StoreAwayError; then it is unknown what went through."""
        try:
            yield
        except Exception as error:
            if not is_away(error):
                raise
            self.client = None  # so that the runs are read again before the next write
            raise StoreAwayError(explain(error)) from error

    @contextmanager
    def asking(self) -> Iterator[Any]:
        """Yield MLflow's client for requests that may safely be repeated; connect if necessary.

        Raises:
            StageFailed: the store does not answer.
        """
        try:
            with self.answering():
                if self.client is None:
                    self.refresh()
                yield self.client
        except StoreAwayError as away:
            raise StageFailed(
                f"the tracking store {redacted(self.uri)} does not answer ({away}); "
                "try again when it does"
            ) from away

    def find(self, tag: str, value: str, *, ask: bool = False) -> KnownRun | None:
        """Return the run with a value of a tag; None if there is none.

        Args:
            tag: `KEY`, `PIPELINE` or `RECORD`.
            value: value of the tag.
            ask: ask the store even if all its runs have been read; another process may have
                added one since.
        """
        known = self.known
        if value not in known.by_tag[tag] and (ask or not known.is_all):
            self._read(self.client, known, f"tags.`{tag}` = '{value}'")
        return known.by_tag[tag].get(value)

    def require(self, tag: str, value: str) -> KnownRun:
        """Return the run with a value of `KEY` or `PIPELINE`.

        Raises:
            LookupError: the store does not have it.
        """
        run = self.find(tag, value, ask=True)
        if run is None:
            raise LookupError(_MISSING[tag].format(value))
        return run

    def model_run(self, key: str) -> KnownRun | None:
        """Return the run of a model by its content key, whatever its age; None if there is none.

        Raises:
            StageFailed: an old run was looked up, and the store does not answer.
        """
        known = self.known
        if key in known.by_tag[KEY] or known.is_all:
            return known.by_tag[KEY].get(key)
        with self.asking():
            return self.find(KEY, key)

    def _read(self, client: Any, known: KnownRuns, where: str = "") -> bool:
        """Add the newest matching runs to `known` (about 1 ms per run); report if these are all."""
        page = client.search_runs(
            [self.experiment_id],
            where,
            max_results=NEWEST,
            order_by=["attributes.start_time DESC"],
        )
        for run in page:
            known.add(known_run(run), run.data.tags)
        return not page.token


def known_run(run: Any) -> KnownRun:
    """Convert MLflow's run."""
    outputs = run.outputs.model_outputs if run.outputs else []
    return KnownRun(
        run_id=run.info.run_id,
        status=run.info.status,
        origin=run.data.tags.get("stockpot.origin", ""),
        parent_id=run.data.tags.get("mlflow.parentRunId", ""),
        model_id=outputs[0].model_id if outputs else None,
        metrics=dict(run.data.metrics),
    )
