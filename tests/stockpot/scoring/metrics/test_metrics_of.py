from __future__ import annotations

import torch
from toy_workload import Toy

from stockpot.scoring.metrics import TASK_METRICS, metrics_of
from stockpot.workloads.protocol import TASKS


def test_every_task_has_metrics_of_different_names() -> None:
    names = {task: [metric.name for metric in metrics] for task, metrics in TASK_METRICS.items()}

    assert set(names) == set(TASKS)
    assert all(len(set(of_task)) == len(of_task) > 0 for of_task in names.values())


def test_a_workloads_own_metrics_come_first_and_stand_where_names_are_equal() -> None:
    workload = Toy(0, [], [], metric="first output")
    workload.metrics = {
        **workload.metrics,
        "nll": lambda outputs, _: torch.ones(len(outputs)),
    }

    metrics = metrics_of(workload)

    assert list(metrics)[:3] == ["first output", "accuracy", "nll"]
    assert set(metrics) == {"first output", *(m.name for m in TASK_METRICS["classification"])}
    assert metrics["nll"].value(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)) == 1
    assert metrics["nll"].higher_is_better
