"""Writing records to an MLflow store so that each record takes effect once.

Every write may be repeated after it went through and the answer was lost. Therefore runs carry the
id of the record that created them, metrics carry the record's own time, and what exists already is
looked up first.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from stockpot.tracking.addresses import VIEW_TAG, runs_view
from stockpot.tracking.entities import (
    dataset_input,
    entities,
    metric_points,
    param_texts,
    param_values,
)
from stockpot.tracking.records import Dataset, ModelRecord, Record
from stockpot.tracking.store import KEY, PIPELINE, RECORD, KnownRun, MlflowStore, known_run

_MAX_REASON = 5000  # characters; MLflow's tags hold 8000 bytes


def give_up(store: MlflowStore, record: Record, reason: str) -> None:
    """End the half-written run of a refused model, so that it does not seem to be running."""
    run = store.known.by_tag[RECORD].get(record.id)
    if record.action != "model" or run is None or run.status != "RUNNING":
        return
    text = _shortened(f"not logged whole: {reason}")
    store.client.set_tag(run.run_id, "stockpot.failure", text)
    if run.model_id is not None:
        store.client.finalize_logged_model(run.model_id, "FAILED")
    store.client.set_terminated(run.run_id, "FAILED")
    run.status = "FAILED"


def _start(store: MlflowStore, record: Record) -> None:
    content = record.content
    run = store.find(PIPELINE, record.pipeline, ask=True)
    if run is None:
        run = _create_run(store, record, content["name"], content["tags"], record.time_ms)
    elif run.status != "RUNNING":  # it continues in another process
        store.client.update_run(run.run_id, status="RUNNING")
        run.status = "RUNNING"
    store.client.log_batch(run.run_id, params=param_values(content["params"]))
    _add_inputs(store, run, content["datasets"])


def _finish(store: MlflowStore, record: Record) -> None:
    _end(store, store.require(PIPELINE, record.pipeline), record)


def _kill(store: MlflowStore, record: Record) -> None:
    """End a run that its process left; the content has MLflow's id of it or stockpot's own."""
    name = record.content["run"]
    pipelines = store.known.by_tag[PIPELINE].items()
    found = (run for pipeline, run in pipelines if name in (pipeline, run.run_id))
    run = next(found, KnownRun(name))
    if run.status == "RUNNING":
        _end(store, run, record)


def _end(store: MlflowStore, run: KnownRun, record: Record) -> None:
    status = record.content["status"]
    store.client.set_terminated(run.run_id, status, end_time=record.time_ms)
    run.status = status


def _model(store: MlflowStore, record: Record) -> None:
    """Log a model as a child run, or link its earlier run."""
    model = ModelRecord(**record.content)
    inputs = [store.require(KEY, key).model_id for key in model.inputs]
    parent = store.require(PIPELINE, record.pipeline)
    own, earlier = store.find(RECORD, record.id), store.find(KEY, model.key)
    if own is not None:  # an earlier attempt at this record, complete if it has the status
        earlier = own if own.status == model.status else None
    elif earlier is not None and earlier.status != "FINISHED":
        # A failure is logged once per pipeline run: another attempt's result is new.
        is_new = model.status == "FINISHED" or earlier.parent_id != parent.run_id
        earlier = None if is_new else earlier
    if earlier is None:
        _log_model(store, record, model, parent, inputs)
        return
    if earlier.parent_id != parent.run_id:
        _add_inputs(store, parent, models=[earlier.model_id])
    _add_metrics(store, earlier, record, model.metrics)


def _log_model(
    store: MlflowStore,
    record: Record,
    model: ModelRecord,
    parent: KnownRun,
    inputs: Sequence[str | None],
) -> None:
    """Write a model's run, continuing where an earlier attempt at this record ended."""
    client, run = store.client, store.known.by_tag[RECORD].get(record.id)
    is_new = run is None
    if run is None:
        tags = {**_model_tags(model), "mlflow.parentRunId": parent.run_id}
        if model.status == "FAILED":
            tags["stockpot.failure"] = _shortened(model.reason)
        started_ms = record.time_ms - round(model.seconds * 1000)
        run = _create_run(store, record, model.name, tags, started_ms)
    has_output = run.model_id is not None
    if model.status == "FINISHED" and not has_output:
        run.model_id = _logged_model(store, model, run, is_new=is_new)
    _add_inputs(store, run, record.content["datasets"], inputs)
    points = metric_points(model.metrics, model.curves, record.time_ms, run.model_id)
    client.log_batch(run.run_id, metrics=points, params=param_values(model.params))
    for name, text in model.files.items():
        client.log_text(run.run_id, text, name)
    if run.model_id is not None:
        if not has_output:
            client.log_outputs(run.run_id, [entities().LoggedModelOutput(run.model_id, 0)])
        client.finalize_logged_model(run.model_id, "READY")
    # Last, so that a run with this status is complete.
    client.set_terminated(run.run_id, model.status, end_time=record.time_ms)
    run.status = model.status
    run.metrics.update(model.metrics)
    store.known.add(run, {KEY: model.key})


def _logged_model(store: MlflowStore, model: ModelRecord, run: KnownRun, *, is_new: bool) -> str:
    """Return the id of the run's LoggedModel, which refers to the checkpoint."""
    if not is_new:
        where = f"source_run_id = '{run.run_id}'"
        for found in store.client.search_logged_models([store.experiment_id], where):
            return str(found.model_id)
    created = store.client.create_logged_model(
        store.experiment_id,
        name=re.sub(r"""[/:.%"']""", "-", model.name),  # MLflow forbids these characters here
        source_run_id=run.run_id,
        tags={**_model_tags(model), "mlflow.model.isExternal": "true"},
        params=param_texts(model.params),
        model_type=model.kind,
    )
    return str(created.model_id)


def _model_tags(model: ModelRecord) -> dict[str, str]:
    """Return the tags of both run and LoggedModel; the UI shows them in this order."""
    tags = {
        "stockpot.kind": model.kind,
        **model.tags,
        "stockpot.path": model.path,
        "stockpot.digest": model.digest,
        KEY: model.key,
        "mlflow.note.content": model.note,
    }
    return {name: value for name, value in tags.items() if value}


def _metrics(store: MlflowStore, record: Record) -> None:
    run = store.require(KEY, record.content["key"])
    _add_inputs(store, run, record.content["datasets"])
    _add_metrics(store, run, record, record.content["metrics"])


def _parent_metrics(store: MlflowStore, record: Record) -> None:
    run = store.require(PIPELINE, record.pipeline)
    _add_metrics(store, run, record, record.content["metrics"], record.content["curves"])


def _parent_tags(store: MlflowStore, record: Record) -> None:
    run = store.require(PIPELINE, record.pipeline)
    for name, value in record.content["tags"].items():
        store.client.set_tag(run.run_id, name, value)


def _artifact(store: MlflowStore, record: Record) -> None:
    run, name = store.require(PIPELINE, record.pipeline), record.content["name"]
    store.client.log_text(run.run_id, base64.b64decode(record.content["base64"]).decode(), name)
    if not record.content["table"]:
        return
    # As `MlflowClient.log_table`, except that logging again replaces the table.
    tags = store.client.get_run(run.run_id).data.tags
    shown = json.loads(tags.get("mlflow.loggedArtifacts", "[]"))
    table = {"path": name, "type": "table"}
    if table not in shown:
        text = json.dumps([*shown, table])
        store.client.set_tag(run.run_id, "mlflow.loggedArtifacts", text)


def _view(store: MlflowStore, record: Record) -> None:
    view = runs_view(record.content["metric"])
    if store.client.get_experiment(store.experiment_id).tags.get(VIEW_TAG) != view:
        store.client.set_experiment_tag(store.experiment_id, VIEW_TAG, view)


ACTIONS = {
    "start": _start,
    "finish": _finish,
    "kill": _kill,
    "model": _model,
    "metrics": _metrics,
    "parent-metrics": _parent_metrics,
    "parent-tags": _parent_tags,
    "artifact": _artifact,
    "view": _view,
}


def _create_run(
    store: MlflowStore, record: Record, name: str, tags: Mapping[str, str], start_ms: int
) -> KnownRun:
    tags = {**tags, RECORD: record.id}
    created = store.client.create_run(
        store.experiment_id, start_time=start_ms, tags=tags, run_name=name
    )
    run = known_run(created)
    store.known.add(run, tags)
    return run


def _add_metrics(
    store: MlflowStore,
    run: KnownRun,
    record: Record,
    metrics: Mapping[str, float],
    curves: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> None:
    """Add the metrics whose value has changed, and curves."""
    new = {name: v for name, v in metrics.items() if not _same(run.metrics.get(name), v)}
    if new or curves:
        points = metric_points(new, curves, record.time_ms, run.model_id)
        store.client.log_batch(run.run_id, metrics=points)
        run.metrics.update(new)


def _same(known: float | None, value: float) -> bool:
    """Whether a metric has this value already; nan is the same as nan."""
    return known is not None and (known == value or (math.isnan(known) and math.isnan(value)))


def _add_inputs(
    store: MlflowStore,
    run: KnownRun,
    datasets: Sequence[Mapping[str, str]] = (),
    models: Sequence[str | None] = (),
) -> None:
    """Add datasets and LoggedModels (by MLflow's id; None is skipped) as inputs of a run."""
    used = [dataset_input(Dataset(**values)) for values in datasets]
    ids = [entities().LoggedModelInput(model_id) for model_id in models if model_id is not None]
    if used or ids:
        store.client.log_inputs(run.run_id, datasets=used, models=ids)


def _shortened(reason: str) -> str:
    return reason if len(reason) <= _MAX_REASON else f"{reason[:_MAX_REASON]} ... (shortened)"
