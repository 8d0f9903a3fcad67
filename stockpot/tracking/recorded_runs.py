"""What the store has of one model, read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stockpot.errors import InputError
from stockpot.tracking.artifacts import get_artifact
from stockpot.tracking.mlflow_store import MlflowStore

MAKING = "making.json"
"""The file of a model's run that holds what it takes to make the model again."""

_ID_LENGTH = 32  # hex digits


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """The run of one model.

    Attributes:
        run_id: MLflow's id.
        name: the model's.
        kind: base, ingredient, soup, tuned or ensemble.
        key: the model's content key.
        metrics: the latest value of each.
        tags: all.
        making: the text of `MAKING`; None if the run has no such file.
    """

    run_id: str
    name: str
    kind: str
    key: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    making: str | None


def read_recorded_run(store: MlflowStore, run_id: str) -> RecordedRun:
    """Read the run of a model; see `Tracker.recorded_run`."""

    def read(client: Any, experiment_id: str) -> RecordedRun:
        run = _find(client, experiment_id, run_id)
        if "stockpot.key" not in run.data.tags:
            raise InputError(
                f"run {run_id!r}: must be the run of a model, got {run.info.run_name!r}; "
                "open it in `stockpot ui` and choose one of its child runs"
            )
        return RecordedRun(
            run_id=run.info.run_id,
            name=run.info.run_name,
            kind=run.data.tags["stockpot.kind"],
            key=run.data.tags["stockpot.key"],
            metrics=dict(run.data.metrics),
            tags=dict(run.data.tags),
            making=get_artifact(client, run.info.run_id, MAKING),
        )

    return store.ask(read)


def _find(client: Any, experiment_id: str, run_id: str) -> Any:
    from mlflow.exceptions import MlflowException

    if len(run_id) == _ID_LENGTH:
        try:
            return client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise InputError(f"run {run_id!r}: not in the tracking store") from None
    found = [
        run for run in client.search_runs([experiment_id]) if run.info.run_id.startswith(run_id)
    ]
    if len(found) != 1:
        raise InputError(
            f"run {run_id!r}: must be a model's name or the start of one run's id, got that of "
            f"{len(found)}; `stockpot ui` shows the ids"
        )
    return client.get_run(found[0].info.run_id)
