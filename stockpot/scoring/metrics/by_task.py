"""Which metrics a workload is judged by: its own, and those of its task."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from stockpot.scoring.metrics.classification import CLASSIFICATION
from stockpot.scoring.metrics.language_model import LANGUAGE_MODEL
from stockpot.scoring.metrics.metric import TaskMetric, mean_metric
from stockpot.scoring.metrics.regression import REGRESSION
from stockpot.workloads.protocol import Task, Workload

TASK_METRICS: Mapping[Task, tuple[TaskMetric, ...]] = MappingProxyType(
    {
        "classification": CLASSIFICATION,
        "regression": REGRESSION,
        "language_model": LANGUAGE_MODEL,
    }
)


def metrics_of(workload: Workload) -> dict[str, TaskMetric]:
    """Return all metrics by name: the workload's own, whose first guides choices, then its task's.

    Where both have a name, the workload's own metric stands.
    """
    own = {
        name: mean_metric(name, per_example, higher_is_better=True, is_fraction=None)
        for name, per_example in workload.metrics.items()
    }
    return own | {m.name: m for m in TASK_METRICS[workload.task] if m.name not in own}
