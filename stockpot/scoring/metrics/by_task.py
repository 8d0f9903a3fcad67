"""The metrics of an evaluation: the workload's own, those of its task, the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from stockpot.errors import InputError
from stockpot.scoring.metrics.classification import CLASSIFICATION
from stockpot.scoring.metrics.language_model import LANGUAGE_MODEL
from stockpot.scoring.metrics.metric import TaskMetric, mean_metric
from stockpot.scoring.metrics.registry import METRICS
from stockpot.scoring.metrics.regression import REGRESSION
from stockpot.workloads.protocol import Task, Workload

TASK_METRICS: Mapping[Task, tuple[TaskMetric, ...]] = MappingProxyType(
    {
        "classification": CLASSIFICATION,
        "regression": REGRESSION,
        "language_model": LANGUAGE_MODEL,
    }
)


def metrics_of(workload: Workload, users: Sequence[str] = ()) -> dict[str, TaskMetric]:
    """Return all metrics by name: the workload's own, then its task's, then the user's.

    The workload's first metric guides choices. Its metrics replace those of the task that have
    the same name.

    Args:
        workload: whose metrics are collected.
        users: further metrics, each as `module:name`.

    Raises:
        InputError: a metric of the user's cannot be imported, or its name is taken.
    """
    own = {
        name: mean_metric(name, per_example, higher_is_better=True, is_fraction=None)
        for name, per_example in workload.metrics.items()
    }
    metrics = own | {m.name: m for m in TASK_METRICS[workload.task] if m.name not in own}
    for place in users:
        metric = METRICS[place]
        if metric.name in metrics:
            raise InputError(
                f"metric {place!r}: there is a metric {metric.name!r} already; "
                "give yours another name"
            )
        metrics[metric.name] = metric
    return metrics
