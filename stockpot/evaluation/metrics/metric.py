"""What a metric is: a name, a direction, and what it makes of outputs and targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from stockpot.workloads.protocol import Metric


@dataclass(frozen=True, slots=True)
class TaskMetric:
    """One metric.

    Attributes:
        name: as it stands in manifests.
        higher_is_better: its direction.
        value: (outputs (N, ...), targets (N, ...)) -> its value on the set; NaN where the set has
            none, such as an AUROC with one class.
        per_example: (outputs, targets) -> values (N,) whose mean is `value`; None where an example
            has no value of its own.
    """

    name: str
    higher_is_better: bool
    value: Callable[[Tensor, Tensor], float]
    per_example: Metric | None = None


def mean_metric(name: str, per_example: Metric, *, higher_is_better: bool) -> TaskMetric:
    """Return the metric that is the mean over examples, formed in float64."""
    return TaskMetric(
        name,
        higher_is_better,
        lambda outputs, targets: float(per_example(outputs, targets).double().mean()),
        per_example,
    )
