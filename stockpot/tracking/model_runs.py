"""The run and the LoggedModel of one model."""

from __future__ import annotations

import json
import re
from typing import Any

from stockpot.tracking.artifacts import put_artifact
from stockpot.tracking.known_runs import KnownRun, KnownRuns
from stockpot.tracking.points import param_objects, points, text_params
from stockpot.tracking.records import Dataset, ModelRecord, Record

_MAX_REASON = 5000  # characters; MLflow's tags hold 8000 bytes
_MAX_DIGEST = 36  # of a dataset, in MLflow


class ModelRuns:
    """Writes models as child runs of pipeline runs; each step may be done again."""

    def __init__(self, client: Any, experiment_id: str, known: KnownRuns) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._known = known

    def already_logged(
        self, model: ModelRecord, record: Record, parent: KnownRun
    ) -> KnownRun | None:
        """Return the whole run of this record, or an earlier one of this model, if there is one.

        A failure is logged once in a pipeline run: trying again and failing again is news.
        """
        own = self._known.by_record.get(record.id)
        if own is not None:
            return own if own.status == model.status else None
        run = self._known.models.get(model.key)
        if run is None or run.status == "FINISHED":
            return run
        news = model.status == "FINISHED" or run.parent_id != parent.run_id
        return None if news else run

    def log(self, model: ModelRecord, record: Record, parent: KnownRun) -> None:
        """Write a model, from wherever an earlier attempt at this record ended."""
        run = self._known.by_record.get(record.id)
        is_new = run is None
        if run is None:
            run = self._create(model, record, parent)
        if model.status == "FINISHED":
            run.model_id = run.model_id or self._logged_model(model, run, is_new=is_new)
        self._log_inputs(model, run)
        self._client.log_batch(
            run.run_id,
            metrics=points(model.metrics, model.curves, record.time_ms, run.model_id),
            params=param_objects(model.params),
        )
        for name, text in model.files.items():
            put_artifact(self._client, run.run_id, name, text.encode())
        if run.model_id is not None:
            self._join(run.run_id, run.model_id, is_new=is_new)
        # Last of all, so that a run with this status is whole.
        self._client.set_terminated(run.run_id, model.status, end_time=record.time_ms)
        run.status = model.status
        run.metrics.update(model.metrics)
        self._known.add(run, {"stockpot.key": model.key})

    def link(self, run: KnownRun, parent: KnownRun) -> None:
        """Make an earlier model an input of a pipeline run that did not need to make it again."""
        model_id = run.model_id
        if model_id is None or run.parent_id == parent.run_id or model_id in parent.input_ids:
            return
        from mlflow.entities import LoggedModelInput

        self._client.log_inputs(parent.run_id, models=[LoggedModelInput(model_id)])
        parent.input_ids.add(model_id)

    def give_up(self, run: KnownRun, reason: str) -> None:
        """End a run that cannot be written to its end, so that nobody takes it for running."""
        from mlflow.entities import LoggedModelStatus

        self._client.set_tag(run.run_id, "stockpot.failure", _shortened(reason))
        if run.model_id is not None:
            self._client.finalize_logged_model(run.model_id, LoggedModelStatus.FAILED)
        self._client.set_terminated(run.run_id, "FAILED")
        run.status = "FAILED"

    def _create(self, model: ModelRecord, record: Record, parent: KnownRun) -> KnownRun:
        tags = {
            **_model_tags(model),
            "mlflow.parentRunId": parent.run_id,
            "stockpot.record": record.id,
        }
        if model.status == "FAILED":
            tags["stockpot.failure"] = _shortened(model.reason)
        started_ms = record.time_ms - round(model.seconds * 1000)
        made = self._client.create_run(
            self._experiment_id, start_time=started_ms, tags=tags, run_name=model.name
        )
        run = KnownRun(made.info.run_id, parent_id=parent.run_id)
        self._known.add(run, tags)
        return run

    def _logged_model(self, model: ModelRecord, run: KnownRun, *, is_new: bool) -> str:
        """Return the id of the run's LoggedModel, which refers to the checkpoint."""
        if not is_new:
            found = self._client.search_logged_models(
                [self._experiment_id], filter_string=f"source_run_id = '{run.run_id}'"
            )
            if found:
                return str(found[0].model_id)
        made = self._client.create_logged_model(
            self._experiment_id,
            name=re.sub(r"""[/:.%"']""", "-", model.name),  # what MLflow forbids in these names
            source_run_id=run.run_id,
            tags={**_model_tags(model), "mlflow.model.isExternal": "true"},
            params=text_params(model.params),
            model_type=model.kind,
        )
        return str(made.model_id)

    def _log_inputs(self, model: ModelRecord, run: KnownRun) -> None:
        from mlflow.entities import LoggedModelInput

        ids = [self._known.models[key].model_id for key in model.inputs]
        models = [LoggedModelInput(model_id) for model_id in ids if model_id is not None]
        datasets = [dataset_input(dataset) for dataset in model.datasets]
        if models or datasets:
            self._client.log_inputs(run.run_id, datasets=datasets, models=models)

    def _join(self, run_id: str, model_id: str, *, is_new: bool) -> None:
        """Make the model the run's output, and ready."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        outputs = None if is_new else self._client.get_run(run_id).outputs
        if not (outputs and outputs.model_outputs):
            self._client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
        self._client.finalize_logged_model(model_id, LoggedModelStatus.READY)


def _model_tags(model: ModelRecord) -> dict[str, str]:
    """Return the tags of both run and LoggedModel; the UI shows them in this order."""
    tags = {
        "stockpot.kind": model.kind,
        **model.tags,
        "stockpot.path": model.path,
        "stockpot.digest": model.digest,
        "stockpot.key": model.key,
        "mlflow.note.content": model.note,
    }
    return {name: value for name, value in tags.items() if value}


def dataset_input(dataset: Dataset) -> Any:
    """Return a dataset as MLflow's input of a run."""
    from mlflow.entities import Dataset as MlflowDataset
    from mlflow.entities import DatasetInput, InputTag

    name = f"{dataset.name}/{dataset.context}"  # the digest may be one for all splits
    described: Any = MlflowDataset
    tag: Any = InputTag
    return DatasetInput(
        described(name, dataset.digest[:_MAX_DIGEST], "local", json.dumps({"uri": name})),
        [tag("mlflow.data.context", dataset.context)],
    )


def _shortened(reason: str) -> str:
    return reason if len(reason) <= _MAX_REASON else f"{reason[:_MAX_REASON]} ... (shortened)"
