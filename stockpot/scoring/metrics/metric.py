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
        is_fraction: whether it is a share in [0, 1]; None where only its values can tell.
    """

    name: str
    higher_is_better: bool
    value: Callable[[Tensor, Tensor], float]
    per_example: Metric | None = None
    is_fraction: bool | None = False


def mean_metric(
    name: str, per_example: Metric, *, higher_is_better: bool, is_fraction: bool | None = False
) -> TaskMetric:
    """Return the metric that is the mean over examples, formed in float64."""
    return TaskMetric(
        name,
        higher_is_better,
        lambda outputs, targets: float(per_example(outputs, targets).double().mean()),
        per_example,
        is_fraction,
    )
