"""Convert logged values to MLflow's own types."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stockpot.tracking.records import Dataset, Scalar

_MAX_DIGEST = 36  # characters of a dataset's digest in MLflow
_MAX_PARAM = 6000  # characters; MLflow cuts a longer value


def entities() -> Any:
    """Import MLflow's value types, which are untyped."""
    import mlflow.entities

    return mlflow.entities


def metric_points(
    metrics: Mapping[str, float],
    curves: Mapping[str, Sequence[float]],
    time_ms: int,
    model_id: str | None,
) -> list[Any]:
    """Convert metrics (at step 0), for run and model, and curves, for the run alone.

    All have the time of their record, so that MLflow drops those that it already has.
    """
    metric = entities().Metric
    return [
        *(metric(n, float(value), time_ms, 0, model_id=model_id) for n, value in metrics.items()),
        *(
            metric(name, float(value), time_ms, step)
            for name, curve in curves.items()
            for step, value in enumerate(curve)
        ),
    ]


def param_values(params: Mapping[str, Scalar]) -> list[Any]:
    """Convert parameters; see `param_texts`."""
    return [entities().Param(name, text) for name, text in param_texts(params).items()]


def param_texts(params: Mapping[str, Scalar]) -> dict[str, str]:
    """Convert parameters to text.

    Raises:
        ValueError: one is longer than MLflow allows; MLflow would cut it.
    """
    texts = {name: str(value) for name, value in params.items()}
    for name, text in texts.items():
        if len(text) > _MAX_PARAM:
            raise ValueError(
                f"parameter {name!r} must have at most {_MAX_PARAM} characters, got {len(text)}"
            )
    return texts


def dataset_input(dataset: Dataset) -> Any:
    """Convert a dataset to an input of a run."""
    name = f"{dataset.name}/{dataset.context}"  # all splits may have the same digest
    source = json.dumps({"uri": name})
    described = entities().Dataset(name, dataset.digest[:_MAX_DIGEST], "local", source)
    context = entities().InputTag("mlflow.data.context", dataset.context)
    return entities().DatasetInput(described, [context])
