"""Contract checks of metrics, on random outputs and targets.

Each check takes a `CheckedMetric` and returns what is wrong and what to change, or None.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stockpot.plugins import Check, CheckResult, Skipped, run_checks
from stockpot.scoring.metrics.metric import TaskMetric
from stockpot.workloads.protocol import Task

_NUM_EXAMPLES, _NUM_CLASSES, _NUM_TOKENS = 64, 4, 6


@dataclass(frozen=True)
class CheckedMetric:
    """A metric under check, and the task of the outputs that it takes."""

    metric: TaskMetric
    task: Task = "classification"

    def examples(self) -> tuple[Tensor, Tensor]:
        """Draw outputs and targets, equal each time."""
        generator = torch.Generator().manual_seed(0)
        if self.task == "regression":
            outputs = torch.randn(_NUM_EXAMPLES, generator=generator)
            return outputs, outputs + torch.randn(_NUM_EXAMPLES, generator=generator)
        if self.task == "language_model":
            targets = torch.randint(50, (_NUM_EXAMPLES, _NUM_TOKENS), generator=generator)
            targets[::3, -2:] = -100
            losses = torch.rand(targets.shape, generator=generator)
            return losses.masked_fill(targets == -100, 0), targets
        outputs = torch.randn(_NUM_EXAMPLES, _NUM_CLASSES, generator=generator)
        return outputs, torch.arange(_NUM_EXAMPLES) % _NUM_CLASSES

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the value of each example.

        Raises:
            Skipped: the metric has a value for the whole set only.
        """
        if self.metric.per_example is None:
            raise Skipped("a metric of the whole set")
        return self.metric.per_example(outputs, targets)


def values_are_per_example(checked: CheckedMetric) -> str | None:
    """Each example has one value: a tensor (N,), float and finite."""
    outputs, targets = checked.examples()
    values: Any = checked.per_example(outputs, targets)
    if not isinstance(values, Tensor) or values.shape != (len(targets),):
        shape = (*values.shape,) if isinstance(values, Tensor) else type(values).__name__
        return f"must have one value per example, ({len(targets)},), got {shape}; take no mean"
    if not values.is_floating_point():
        return f"values must be floats, got {values.dtype}; convert booleans by .float()"
    if not values.isfinite().all():
        return "values must be finite, got NaN or infinity; clamp the argument of log()"
    return None


def value_is_a_number(checked: CheckedMetric) -> str | None:
    """The value of a set of examples is one finite number."""
    value: Any = checked.metric(*checked.examples())
    if not isinstance(value, float):
        return f"the value must be a float, got {type(value).__name__}; convert it by float()"
    if not math.isfinite(value):
        return f"the value must be finite where all classes have examples, got {value}"
    return None


def inputs_are_unchanged(checked: CheckedMetric) -> str | None:
    """Outputs and targets are not modified."""
    examples = checked.examples()
    checked.metric(*examples)
    if not all(map(torch.equal, examples, checked.examples())):
        return "must leave outputs and targets unchanged, got modified ones; change a copy"
    return None


def value_is_deterministic(checked: CheckedMetric) -> str | None:
    """Equal examples have the same value each time."""
    first, second = (checked.metric(*checked.examples()) for _ in range(2))
    if first != second:
        return f"must return the same value each time, got {first} and {second}"
    return None


def order_of_examples_has_no_effect(checked: CheckedMetric) -> str | None:
    """Examples in another order have the same values, up to rounding."""
    outputs, targets = checked.examples()
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(1))
    before = checked.metric(outputs, targets)
    after = checked.metric(outputs[order], targets[order])
    if not math.isclose(before, after, rel_tol=1e-5, abs_tol=1e-7):
        return f"must not depend on the order of examples, got {before} and {after}"
    if checked.metric.per_example is not None:
        values = checked.per_example(outputs, targets)
        reordered = checked.per_example(outputs[order], targets[order])
        if not torch.allclose(values[order], reordered, rtol=1e-5, atol=1e-7):
            return "values must be in the order of the examples, got another order"
    return None


def values_are_independent(checked: CheckedMetric) -> str | None:
    """The value of an example does not depend on the other examples."""
    outputs, targets = checked.examples()
    half = len(targets) // 2
    values = checked.per_example(outputs, targets)[:half]
    if not torch.allclose(values, checked.per_example(outputs[:half], targets[:half])):
        return (
            "the value of an example must not depend on other examples, got others in half of "
            "the set; normalise by constants, or make it a TaskMetric of the whole set"
        )
    return None


CHECKS: dict[Check[CheckedMetric], tuple[Check[CheckedMetric], ...]] = {
    values_are_per_example: (),
    value_is_a_number: (values_are_per_example,),
    inputs_are_unchanged: (value_is_a_number,),
    value_is_deterministic: (value_is_a_number,),
    order_of_examples_has_no_effect: (value_is_deterministic,),
    values_are_independent: (value_is_deterministic,),
}
"""The checks in order, each with those that it requires."""


def check_metric(metric: TaskMetric, task: Task = "classification") -> Iterator[CheckResult]:
    """Check a metric and yield the result of each check.

    Args:
        metric: the metric, e.g. `stockpot.scoring.metrics.registry.METRICS["my_module:metric"]`.
        task: the task of the outputs that it takes.
    """
    yield from run_checks(CHECKS, CheckedMetric(metric, task))
