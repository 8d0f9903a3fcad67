"""What the tracking store already has of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NEWEST = 1000  # as many runs are read at once; an older one is looked up when it is needed


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
    """Runs of an experiment, by what stockpot knows of them.

    Attributes:
        is_all: there was no other run when they were read.
        pipelines: a pipeline run's own id -> its parent run.
        models: content key -> its run; whole runs only, a finished one before a failed one.
        by_record: id of the record that made it -> the run, whole or not.
    """

    is_all: bool = True
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
    """Read the newest runs of an experiment; a search takes about 1 ms a run."""
    page = client.search_runs(
        [experiment_id], max_results=NEWEST, order_by=["attributes.start_time DESC"]
    )
    known = KnownRuns(is_all=not page.token)
    for run in page:
        known.add(_known_run(run), run.data.tags)
    return known


def look_up(client: Any, experiment_id: str, known: KnownRuns, tag: str, value: str) -> None:
    """Add to `known` the runs with one value of a tag, whatever their age."""
    where = f"tags.`{tag}` = '{value}'"
    for run in client.search_runs([experiment_id], filter_string=where):
        known.add(_known_run(run), run.data.tags)


def _known_run(run: Any) -> KnownRun:
    outputs = run.outputs.model_outputs if run.outputs else []
    return KnownRun(
        run_id=run.info.run_id,
        status=run.info.status,
        origin=run.data.tags.get("stockpot.origin", ""),
        parent_id=run.data.tags.get("mlflow.parentRunId", ""),
        model_id=outputs[0].model_id if outputs else None,
        metrics=dict(run.data.metrics),
    )
