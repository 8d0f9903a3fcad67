"""Metrics: a name, a direction, and a function of outputs and targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from stockpot.errors import InputError
from stockpot.plugins import check_takes
from stockpot.workloads.protocol import Metric


@dataclass(frozen=True, slots=True)
class TaskMetric:
    """One metric; calling it is calling `value`, so a plugin can be one.

    Attributes:
        name: in manifests.
        higher_is_better: its direction.
        value: (outputs (N, ...), targets (N, ...)) -> the value on a set; NaN if it is undefined,
            such as an AUROC with one class.
        per_example: (outputs, targets) -> values (N,) whose mean is `value`; None if single
            examples have no value.
        is_fraction: whether it lies in [0, 1]; None to decide by its values.
    """

    name: str
    higher_is_better: bool
    value: Callable[[Tensor, Tensor], float]
    per_example: Metric | None = None
    is_fraction: bool | None = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> float:
        """Return the value on a set."""
        return self.value(outputs, targets)


def mean_metric(
    name: str, per_example: Metric, *, higher_is_better: bool, is_fraction: bool | None = False
) -> TaskMetric:
    """Return the metric that is the mean over examples, computed in float64."""

    def mean(outputs: Tensor, targets: Tensor) -> float:
        return float(per_example(outputs, targets).double().mean())

    return TaskMetric(name, higher_is_better, mean, per_example, is_fraction)


def users_metric(name: str, found: Any) -> TaskMetric:
    """Return a user's metric: a `TaskMetric`, or a function with one value per example.

    Args:
        name: `module:attribute`.
        found: a `TaskMetric`, or a function (outputs (N, ...), targets (N, ...)) -> values (N,),
            higher is better, whose mean is the metric.

    Raises:
        InputError: the function takes other arguments.
    """
    if isinstance(found, TaskMetric):
        return found
    check_takes(f"metric {name!r}", found, "outputs", "targets")

    def per_example(outputs: Tensor, targets: Tensor) -> Tensor:
        values = found(outputs, targets)
        shape = getattr(values, "shape", None)
        if not isinstance(values, Tensor) or shape != (len(targets),):
            got = type(values).__name__ if shape is None else f"shape {tuple(shape)}"
            raise InputError(
                f"metric {name!r}: must return a tensor with one value per example, shape "
                f"({len(targets)},), got {got}; return a TaskMetric for a metric of the whole set"
            )
        return values

    metric_name = name.partition(":")[2]
    return mean_metric(metric_name, per_example, higher_is_better=True, is_fraction=None)
