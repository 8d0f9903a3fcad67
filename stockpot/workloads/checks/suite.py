"""All checks of a workload, in order."""

from __future__ import annotations

from collections.abc import Iterator

from stockpot.plugins import Check, CheckResult, run_checks
from stockpot.workloads.checks import data, models, shifts
from stockpot.workloads.checks.checked_workload import CheckedWorkload
from stockpot.workloads.checks.processes import workers_see_the_same
from stockpot.workloads.spec import WorkloadSpec

CHECKS: dict[Check[CheckedWorkload], tuple[Check[CheckedWorkload], ...]] = {
    data.splits_have_examples: (),
    data.splits_are_disjoint: (data.splits_have_examples,),
    data.values_are_finite: (data.splits_have_examples,),
    data.examples_repeat: (data.splits_have_examples,),
    models.models_are_reproducible: (),
    models.outputs_are_per_example: (data.splits_have_examples, models.models_are_reproducible),
    data.targets_fit_the_task: (models.outputs_are_per_example,),
    models.loss_is_per_example: (models.outputs_are_per_example, data.targets_fit_the_task),
    models.step_lowers_the_loss: (models.loss_is_per_example,),
    models.metrics_are_per_example: (models.outputs_are_per_example, data.targets_fit_the_task),
    shifts.augmentation_keeps_shapes_and_targets: (data.splits_have_examples,),
    shifts.shifts_are_those_chosen: (),
    data.shapes_are_equal: (data.splits_have_examples,),
    shifts.copies_keep_the_order: (data.splits_have_examples, shifts.shifts_are_those_chosen),
    shifts.other_examples_are_new: (data.splits_have_examples, shifts.shifts_are_those_chosen),
    shifts.shifts_repeat: (shifts.shifts_are_those_chosen,),
    data.digest_identifies_the_data: (data.splits_have_examples,),
    workers_see_the_same: (data.splits_have_examples,),
}
"""The checks in order, each with those that it requires."""


def check_workload(spec: WorkloadSpec) -> Iterator[CheckResult]:
    """Check a workload and yield the result of each check when it is done.

    All examples of all splits are read, test too; nothing is trained except for one step.

    Raises:
        InputError: the workload cannot be built: unknown name, wrong arguments, a missing member.
    """
    yield from run_checks(CHECKS, CheckedWorkload(spec))
