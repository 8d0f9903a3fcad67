"""All checks of a workload, in order."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stockpot.errors import InputError
from stockpot.workload_checks.data import (
    digest_stands_for_the_data,
    examples_repeat,
    shapes_are_steady,
    splits_are_disjoint,
    splits_open,
    targets_fit_the_task,
)
from stockpot.workload_checks.models import (
    forward_passes_examples,
    loss_is_per_example,
    metrics_are_per_example,
    model_is_rebuilt,
    step_lowers_the_loss,
)
from stockpot.workload_checks.shifts import (
    augmentation_keeps_the_form,
    shifts_are_those_named,
    shifts_keep_the_order,
    shifts_repeat,
    worker_sees_the_same,
)
from stockpot.workload_checks.subject import Subject
from stockpot.workloads.spec import WorkloadSpec

CHECKS: tuple[Callable[[Subject], str | None], ...] = (
    splits_open,
    splits_are_disjoint,
    examples_repeat,
    model_is_rebuilt,
    forward_passes_examples,
    targets_fit_the_task,
    loss_is_per_example,
    step_lowers_the_loss,
    metrics_are_per_example,
    shifts_are_those_named,
    shapes_are_steady,
    shifts_keep_the_order,
    shifts_repeat,
    augmentation_keeps_the_form,
    digest_stands_for_the_data,
    worker_sees_the_same,
)
"""Later ones rest on what earlier ones found to be well."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What one check found.

    Attributes:
        name: the check's.
        claim: what it looks at, as a sentence.
        problem: what is wrong and what to change; None if all is well.
    """

    name: str
    claim: str
    problem: str | None


def check_workload(spec: WorkloadSpec) -> Iterator[Checked]:
    """Check a workload and yield what each check found, as soon as it is known.

    An error in the workload's own code is a problem of the check that met it, and the others go
    on.

    Raises:
        InputError: the workload cannot be built: no such name, other arguments, a missing part.
    """
    subject = Subject(spec)
    for check in CHECKS:
        claim = (check.__doc__ or "").strip()
        yield Checked(check.__name__.replace("_", " "), claim, _problem(check, subject))


def _problem(check: Callable[[Subject], str | None], subject: Subject) -> str | None:
    try:
        return check(subject)
    except InputError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 (whatever the user's code raises)
        return f"{_place(error)}: {type(error).__name__}: {error}"


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
