"""The check of a workload's data before anything is trained on it."""

from __future__ import annotations

from stockpot.errors import InputError
from stockpot.workloads.spec import WorkloadSpec


def check_data(workload: WorkloadSpec, device: str) -> None:  # noqa: ARG001 (a job has a device)
    """Refuse data that cannot be trained or chosen on; runs in a worker process.

    Raises:
        InputError: a split is empty; a number is not finite; a target does not fit the model's
            outputs; a class of val is not in train; or val shares examples with train.
    """
    from stockpot.workloads.checks.before_training import data_problem

    if problem := data_problem(workload.build()):
        raise InputError(
            f"workload {workload.name!r}: {problem}; `stockpot check-workload` looks at all else"
        )
