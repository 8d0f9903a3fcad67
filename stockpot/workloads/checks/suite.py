"""All checks of a workload, in order."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stockpot.errors import InputError
from stockpot.workloads.checks.checked_workload import CheckedWorkload, Skipped
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

Check = Callable[[CheckedWorkload], str | None]

CHECKS: dict[Check, tuple[Check, ...]] = {
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
"""The checks in their order, each with those that it rests on: it is skipped where one failed."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: the check's, in words.
        claim: what it holds the workload to, as a sentence.
        outcome: how it ended.
        detail: of a failure, what is wrong and what to change; of a skipped check, why.
    """

    name: str
    claim: str
    outcome: Literal["ok", "failed", "skipped"]
    detail: str = ""


def check_workload(spec: WorkloadSpec) -> Iterator[CheckResult]:
    """Check a workload and yield what each check found, as soon as it is known.

    All examples of all splits are read, test too; nothing is trained but for a step. An error in
    the workload's own code is a failure of the check that met it, and the others go on.

    Raises:
        InputError: the workload cannot be built: no such name, other arguments, a missing part.
    """
    checked = CheckedWorkload(spec)
    unsound: set[Check] = set()
    for check, needed in CHECKS.items():
        missing = [other for other in needed if other in unsound]
        result = _skipped(check, missing[0]) if missing else _checked(check, checked)
        if missing or result.outcome == "failed":
            unsound.add(check)
        yield result


def _checked(check: Check, checked: CheckedWorkload) -> CheckResult:
    name, claim = _described(check)
    try:
        problem = check(checked)
    except Skipped as reason:
        return CheckResult(name, claim, "skipped", f"{reason}")
    except InputError as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001 (whatever the user's code raises)
        problem = f"{_place(error)}: {type(error).__name__}: {error}"
    return (
        CheckResult(name, claim, "ok")
        if problem is None
        else CheckResult(name, claim, "failed", problem)
    )


def _skipped(check: Check, needed: Check) -> CheckResult:
    return CheckResult(*_described(check), "skipped", f"rests on: {_described(needed)[0]}")


def _described(check: Check) -> tuple[str, str]:
    return check.__name__.replace("_", " "), (check.__doc__ or "").strip()


def _place(error: Exception) -> str:
    """Name the line that raised an error: the last one outside of torch and of these checks."""
    frames = traceback.extract_tb(error.__traceback__)
    own = Path(__file__).parent
    outside = [
        frame
        for frame in frames
        if "site-packages" not in frame.filename and own not in Path(frame.filename).parents
    ]
    last = outside[-1] if outside else frames[-1]
    return f"{Path(last.filename).name}, line {last.lineno}"
