"""The contract checks of metrics: good ones pass, and each check finds a broken one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from stockpot.plugins import CheckResult
from stockpot.scoring.metrics import TASK_METRICS
from stockpot.scoring.metrics.checks import CHECKS, check_metric
from stockpot.scoring.metrics.metric import TaskMetric, mean_metric
from stockpot.workloads.protocol import Task

_calls = itertools.count()
Function = Callable[[Tensor, Tensor], Any]


def margin(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the logit of the target minus the largest one; sound."""
    return outputs.gather(1, targets[:, None]).squeeze(1) - outputs.amax(dim=1)


def mean(outputs: Tensor, targets: Tensor) -> Tensor:
    return margin(outputs, targets).mean()


def booleans(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.argmax(dim=1) == targets


def infinite(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(dim=1) == targets).float().log()


def in_place(outputs: Tensor, targets: Tensor) -> Tensor:
    return margin(outputs.mul_(2), targets)


def other_each_time(outputs: Tensor, targets: Tensor) -> Tensor:
    return margin(outputs, targets) + next(_calls)


def sorted_values(outputs: Tensor, targets: Tensor) -> Tensor:
    return margin(outputs, targets).sort().values


def weighted_by_place(outputs: Tensor, targets: Tensor) -> Tensor:
    return margin(outputs, targets) * torch.arange(len(targets))


def normalised_by_the_set(outputs: Tensor, targets: Tensor) -> Tensor:
    values = margin(outputs, targets)
    return values - values.mean() / 2


def of_the_set(value: Function) -> TaskMetric:
    return TaskMetric("of the set", True, value)


BROKEN: dict[str, tuple[Function | TaskMetric, str, str]] = {
    "mean": (mean, "values are per example", r"\(64,\), got \(\); take no mean"),
    "booleans": (booleans, "values are per example", "must be floats, got torch.bool"),
    "infinite": (infinite, "values are per example", "must be finite"),
    "a tensor": (of_the_set(mean), "value is a number", "must be a float, got Tensor"),
    "NaN": (of_the_set(lambda *_: float("nan")), "value is a number", "finite .* got nan"),
    "in place": (in_place, "inputs are unchanged", "change a copy"),
    "other each time": (other_each_time, "value is deterministic", "the same value each time"),
    "sorted": (sorted_values, "order of examples has no effect", "in the order of the examples"),
    "weighted": (weighted_by_place, "order of examples has no effect", "must not depend on the or"),
    "normalised": (normalised_by_the_set, "values are independent", "got others in half"),
}


def results_of(metric: Function | TaskMetric, task: Task = "classification") -> list[CheckResult]:
    if not isinstance(metric, TaskMetric):
        metric = mean_metric("own", metric, higher_is_better=True)
    return list(check_metric(metric, task))


def test_a_sound_metric_passes_all_checks() -> None:
    results = results_of(margin)

    assert {result.outcome for result in results} == {"ok"}
    assert len(results) == len(CHECKS)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_metric_is_found_with_what_to_change(broken: str) -> None:
    metric, name, message = BROKEN[broken]

    results = {result.name: result for result in results_of(metric)}

    assert results[name].outcome == "failed"
    assert re.search(message, results[name].message), results[name].message


def test_every_check_finds_a_broken_metric() -> None:
    names = {check.__name__.replace("_", " ") for check in CHECKS}

    assert {name for _, name, _ in BROKEN.values()} == names


@pytest.mark.parametrize(
    ("task", "metric"),
    [(task, metric) for task, metrics in TASK_METRICS.items() for metric in metrics],
    ids=lambda each: each if isinstance(each, str) else each.name,
)
def test_a_built_in_metric_fails_no_check(task: Task, metric: TaskMetric) -> None:
    assert [result for result in results_of(metric, task) if result.outcome == "failed"] == []
