"""What the tracking store already has of an experiment, read with one search."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_PAGE = 1000


@dataclass(slots=True)
class KnownRun:
    """One run in the store.

    Attributes:
        run_id: MLflow's id.
        status: RUNNING while the run is being written, then FINISHED, FAILED or KILLED.
        origin: machine and folder that a pipeline run was started in.
        parent_id: MLflow's id of the pipeline run that made it; empty for a pipeline run.
        model_id: of the run's LoggedModel, if it has one.
        metrics: the latest value of each.
        input_ids: LoggedModels that this process gave the run as input.
    """

    run_id: str
    status: str = "RUNNING"
    origin: str = ""
    parent_id: str = ""
    model_id: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    input_ids: set[str] = field(default_factory=set)


@dataclass(slots=True)
class KnownRuns:
    """The runs of an experiment, by what stockpot knows of them.

    Attributes:
        pipelines: a pipeline run's own id -> its parent run.
        models: content key -> its run; whole runs only, a finished one before a failed one.
        by_record: id of the record that made it -> the run, whole or not.
    """

    pipelines: dict[str, KnownRun] = field(default_factory=dict)
    models: dict[str, KnownRun] = field(default_factory=dict)
    by_record: dict[str, KnownRun] = field(default_factory=dict)

    def add(self, run: KnownRun, tags: dict[str, str]) -> None:
        """Take in a run whose tags are `tags`; of two finished runs of a key the first stays."""
        if pipeline := tags.get("stockpot.pipeline"):
            self.pipelines.setdefault(pipeline, run)
        if record := tags.get("stockpot.record"):
            self.by_record.setdefault(record, run)
        key = tags.get("stockpot.key")
        if key and run.status != "RUNNING":
            earlier = self.models.get(key)
            if earlier is None or (earlier.status, run.status) == ("FAILED", "FINISHED"):
                self.models[key] = run


def read_runs(client: Any, experiment_id: str) -> KnownRuns:
    """Read what the store has of an experiment, the newest runs first."""
    known = KnownRuns()
    for run in _all_runs(client, experiment_id):
        outputs = run.outputs.model_outputs if run.outputs else []
        found = KnownRun(
            run_id=run.info.run_id,
            status=run.info.status,
            origin=run.data.tags.get("stockpot.origin", ""),
            parent_id=run.data.tags.get("mlflow.parentRunId", ""),
            model_id=outputs[0].model_id if outputs else None,
            metrics=dict(run.data.metrics),
        )
        known.add(found, run.data.tags)
    return known


def _all_runs(client: Any, experiment_id: str) -> Iterable[Any]:
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
