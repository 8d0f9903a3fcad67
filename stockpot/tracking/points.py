"""Metrics and parameters as MLflow's objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stockpot.tracking.records import Scalar

_MAX_PARAM = 6000


def points(
    metrics: Mapping[str, float],
    curves: Mapping[str, Sequence[float]],
    time_ms: int,
    model_id: str | None,
) -> list[Any]:
    """Return the points of metrics (at step 0), on run and model, and of curves, on the run.

    All have the one time of their record, so that MLflow drops those that it already has.
    """
    from mlflow.entities import Metric

    point: Any = Metric  # untyped in MLflow
    on_both = [
        point(name, float(value), time_ms, 0, model_id=model_id) for name, value in metrics.items()
    ]
    on_run = [
        point(name, float(value), time_ms, step)
        for name, curve in curves.items()
        for step, value in enumerate(curve)
    ]
    return on_both + on_run


def new_points(known: Mapping[str, float], metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics whose value is not the known one; nan is the same as nan."""
    return {name: value for name, value in metrics.items() if not _same(known.get(name), value)}


def text_params(params: Mapping[str, Scalar]) -> dict[str, str]:
    """Return parameters as text.

    Raises:
        ValueError: one is longer than MLflow keeps; it would cut it.
    """
    texts = {name: str(value) for name, value in params.items()}
    for name, text in texts.items():
        if len(text) > _MAX_PARAM:
            raise ValueError(
                f"parameter {name!r} must have at most {_MAX_PARAM} characters, got {len(text)}"
            )
    return texts


def param_objects(params: Mapping[str, Scalar]) -> list[Any]:
    """Return parameters as MLflow's objects."""
    from mlflow.entities import Param

    param: Any = Param  # untyped in MLflow
    return [param(name, text) for name, text in text_params(params).items()]


def _same(known: float | None, value: float) -> bool:
    return known is not None and (known == value or (known != known and value != value))  # noqa: PLR0124 (nan)
