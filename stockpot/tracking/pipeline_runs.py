"""What the store has of a whole pipeline run, read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stockpot.errors import InputError
from stockpot.tracking.artifacts import get_artifacts
from stockpot.tracking.mlflow_store import MlflowStore

_WHERE = "tags.`stockpot.kind` = 'pipeline'"
_FOLDER = "results"  # among the artifacts


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """The parent run of one pipeline run.

    Attributes:
        run_id: MLflow's id.
        experiment_id: MLflow's id of the experiment that it is in.
        name: as MLflow's UI shows it.
        params: params.yaml, flat; values are texts.
        datasets: digest by set of examples: train, val, test, `test_shift/<name>`.
        results: the text of each results/**/*.json, by its path in that folder.
    """

    run_id: str
    experiment_id: str
    name: str
    params: Mapping[str, str]
    datasets: Mapping[str, str]
    results: Mapping[str, str]


def read_pipeline_run(store: MlflowStore, run_id: str) -> PipelineRun:
    """Read a parent run of any experiment of the store; see `Tracker.pipeline_run`."""

    def read(client: Any, _experiment_id: str) -> PipelineRun:
        run = _find(client, run_id)
        inputs = run.inputs.dataset_inputs if run.inputs else []
        return PipelineRun(
            run_id=run.info.run_id,
            experiment_id=run.info.experiment_id,
            name=run.info.run_name,
            params=dict(run.data.params),
            datasets=dict(_set_and_digest(used.dataset) for used in inputs),
            results=get_artifacts(client, run.info.run_id, _FOLDER),
        )

    return store.ask(read)


def _find(client: Any, run_id: str) -> Any:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    pages: list[Any] = []
    token = None
    while not pages or token:
        page = client.search_runs(experiments, _WHERE, page_token=token)
        pages.append(page)
        token = page.token
    found = [run for page in pages for run in page if run.info.run_id.startswith(run_id)]
    if len(found) != 1:
        raise InputError(
            f"run {run_id!r}: must be a project folder or the start of one parent run's id, got "
            f"that of {len(found)}; `stockpot ui` shows the ids"
        )
    return client.get_run(found[0].info.run_id)


def _set_and_digest(dataset: Any) -> tuple[str, str]:
    return dataset.name.partition("/")[2], dataset.digest
