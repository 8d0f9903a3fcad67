"""All checks of a workload, in order."""

from __future__ import annotations

from collections.abc import Iterator

from stockpot.plugins import Check, CheckResult, run_checks
from stockpot.workloads.checks.checked_workload import CheckedWorkload
from stockpot.workloads.checks.data import (
    digest_identifies_the_data,
    examples_repeat,
    shapes_are_equal,
    splits_are_disjoint,
    splits_have_examples,
    targets_fit_the_task,
    values_are_finite,
)
from stockpot.workloads.checks.models import (
    loss_is_per_example,
    metrics_are_per_example,
    models_are_reproducible,
    outputs_are_per_example,
    step_lowers_the_loss,
)
from stockpot.workloads.checks.processes import workers_see_the_same
from stockpot.workloads.checks.shifts import (
    augmentation_keeps_shapes_and_targets,
    copies_keep_the_order,
    other_examples_are_new,
    shifts_are_those_chosen,
    shifts_repeat,
)
from stockpot.workloads.spec import WorkloadSpec

CHECKS: dict[Check[CheckedWorkload], tuple[Check[CheckedWorkload], ...]] = {
    splits_have_examples: (),
    splits_are_disjoint: (splits_have_examples,),
    values_are_finite: (splits_have_examples,),
    examples_repeat: (splits_have_examples,),
    models_are_reproducible: (),
    outputs_are_per_example: (splits_have_examples, models_are_reproducible),
    targets_fit_the_task: (outputs_are_per_example,),
    loss_is_per_example: (outputs_are_per_example, targets_fit_the_task),
    step_lowers_the_loss: (loss_is_per_example,),
    metrics_are_per_example: (outputs_are_per_example, targets_fit_the_task),
    augmentation_keeps_shapes_and_targets: (splits_have_examples,),
    shifts_are_those_chosen: (),
    shapes_are_equal: (splits_have_examples,),
    copies_keep_the_order: (splits_have_examples, shifts_are_those_chosen),
    other_examples_are_new: (splits_have_examples, shifts_are_those_chosen),
    shifts_repeat: (shifts_are_those_chosen,),
    digest_identifies_the_data: (splits_have_examples,),
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
