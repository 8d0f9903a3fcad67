"""All checks of a workload, in order."""

from __future__ import annotations

from collections.abc import Iterator

from stockpot.plugins import Check, CheckResult, run_checks
from stockpot.workloads.checks.checked_workload import CheckedWorkload
from stockpot.workloads.checks.data import (
    digest_stands_for_the_data,
    examples_repeat,
    shapes_are_steady,
    splits_are_disjoint,
    splits_have_examples,
    targets_fit_the_task,
    values_are_finite,
)
from stockpot.workloads.checks.models import (
    forward_passes_examples,
    loss_is_per_example,
    metrics_are_per_example,
    model_is_rebuilt,
    step_lowers_the_loss,
)
from stockpot.workloads.checks.processes import workers_see_the_same
from stockpot.workloads.checks.shifts import (
    augmentation_keeps_the_form,
    other_examples_are_new,
    shifts_are_those_named,
    shifts_keep_the_order,
    shifts_repeat,
)
from stockpot.workloads.spec import WorkloadSpec

CHECKS: dict[Check[CheckedWorkload], tuple[Check[CheckedWorkload], ...]] = {
    splits_have_examples: (),
    splits_are_disjoint: (splits_have_examples,),
    values_are_finite: (splits_have_examples,),
    examples_repeat: (splits_have_examples,),
    model_is_rebuilt: (),
    forward_passes_examples: (splits_have_examples, model_is_rebuilt),
    targets_fit_the_task: (forward_passes_examples,),
    loss_is_per_example: (forward_passes_examples, targets_fit_the_task),
    step_lowers_the_loss: (loss_is_per_example,),
    metrics_are_per_example: (forward_passes_examples, targets_fit_the_task),
    augmentation_keeps_the_form: (splits_have_examples,),
    shifts_are_those_named: (),
    shapes_are_steady: (splits_have_examples,),
    shifts_keep_the_order: (splits_have_examples, shifts_are_those_named),
    other_examples_are_new: (splits_have_examples, shifts_are_those_named),
    shifts_repeat: (shifts_are_those_named,),
    digest_stands_for_the_data: (splits_have_examples,),
    workers_see_the_same: (splits_have_examples,),
}
"""The checks in order, each with those that it requires."""


def check_workload(spec: WorkloadSpec) -> Iterator[CheckResult]:
    """Check a workload and yield the result of each check as soon as it is known.

    All examples of all splits are read, test too; nothing is trained except for one step.

    Raises:
        InputError: the workload cannot be built: unknown name, wrong arguments, a missing member.
    """
    yield from run_checks(CHECKS, CheckedWorkload(spec))
