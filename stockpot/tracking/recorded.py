"""Runs read back from the tracking store: of one model, and of a whole pipeline run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockpot.errors import InputError
from stockpot.tracking.connection import ignoring
from stockpot.tracking.store import KEY, MlflowStore

PROVENANCE = "making.json"
"""The file of a model's run with everything that is needed to rebuild the model."""

_ID_LENGTH = 32  # hex digits
_MAX_RUNS = 50_000  # the most that MLflow returns at once
_RESULTS = "results"  # a folder among the artifacts


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """The run of one model.

    Attributes:
        run_id: MLflow's id.
        name: name of the model.
        kind: base, ingredient, soup, tuned or ensemble.
        key: content key of the model.
        metrics: the latest value of each metric.
        tags: all tags.
        provenance: text of the file `PROVENANCE`; None if the run has no such file.
    """

    run_id: str
    name: str
    kind: str
    key: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    provenance: str | None


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """The parent run of one pipeline run.

    Attributes:
        run_id: MLflow's id.
        experiment_id: MLflow's id of its experiment.
        name: name in MLflow's UI.
        params: params.yaml, flat; values are texts.
        datasets: set of examples (train, val, test, `test_shift/<name>`) -> digest.
        results: path of each results/**/*.json in that folder -> its text.
    """

    run_id: str
    experiment_id: str
    name: str
    params: Mapping[str, str]
    datasets: Mapping[str, str]
    results: Mapping[str, str]


def read_recorded_run(store: MlflowStore, run_id: str) -> RecordedRun:
    """Read the run of a model.

    Args:
        store: its experiment contains the run.
        run_id: MLflow's id of the run, or the first characters of the id.

    Raises:
        InputError: no run of this experiment has this id, several do, or it is not a model's.
        StageFailed: the store does not answer.
    """
    with store.asking() as client:
        run = None
        if len(run_id) == _ID_LENGTH:
            with ignoring("RESOURCE_DOES_NOT_EXIST"):
                run = client.get_run(run_id)
        if run is None:
            expected = "a model's name or the start of one run's id"
            run = _find(client, run_id, [store.experiment_id or ""], expected)
        if KEY not in run.data.tags:
            raise InputError(
                f"run {run_id!r}: must be the run of a model, got {run.info.run_name!r}; "
                "open it in `stockpot ui` and choose one of its child runs"
            )
        return RecordedRun(
            run_id=run.info.run_id,
            name=run.info.run_name,
            kind=run.data.tags["stockpot.kind"],
            key=run.data.tags[KEY],
            metrics=dict(run.data.metrics),
            tags=dict(run.data.tags),
            provenance=_texts(client, run.info.run_id, PROVENANCE).get(PROVENANCE),
        )


def read_pipeline_run(store: MlflowStore, run_id: str) -> PipelineRun:
    """Read a whole pipeline run, of any experiment in the store.

    Raises:
        InputError: the id is not the beginning of exactly one parent run's id.
        StageFailed: the store does not answer.
    """
    expected = "a project folder or the start of one parent run's id"
    with store.asking() as client:
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        run = _find(client, run_id, experiments, expected, "tags.`stockpot.kind` = 'pipeline'")
        datasets = [used.dataset for used in (run.inputs.dataset_inputs if run.inputs else [])]
        texts = _texts(client, run.info.run_id, _RESULTS)
        return PipelineRun(
            run_id=run.info.run_id,
            experiment_id=run.info.experiment_id,
            name=run.info.run_name,
            params=dict(run.data.params),
            datasets={dataset.name.partition("/")[2]: dataset.digest for dataset in datasets},
            results={name.removeprefix(f"{_RESULTS}/"): text for name, text in texts.items()},
        )


def _find(
    client: Any, start: str, experiment_ids: Sequence[str], expected: str, where: str = ""
) -> Any:
    """Return the one matching run whose id begins with `start`."""
    runs = client.search_runs(experiment_ids, where, max_results=_MAX_RUNS)
    found = [run.info.run_id for run in runs if run.info.run_id.startswith(start)]
    if len(found) != 1:
        raise InputError(
            f"run {start!r}: must be {expected}, got that of {len(found)}; "
            "`stockpot ui` shows the ids"
        )
    return client.get_run(found[0])


def _texts(client: Any, run_id: str, name: str) -> dict[str, str]:
    """Read a text file of a run, or all below a folder, by path; {} if the run has none."""
    if name not in {file.path for file in client.list_artifacts(run_id)}:
        return {}
    with tempfile.TemporaryDirectory() as temporary:
        client.download_artifacts(run_id, name, temporary)
        top = Path(temporary)
        files = sorted(path for path in top.rglob("*") if path.is_file())
        return {path.relative_to(top).as_posix(): path.read_text("utf-8") for path in files}
