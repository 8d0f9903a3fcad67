"""Checks: of the data before anything is trained, of the ingredients before they are merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stockpot.experiment.jobs.prechecking import check_ingredients, require_enough
from stockpot.storage.models import Model
from stockpot.workloads.checks.before_training import check_data
from tasks.session import current_session
from tasks.task_kinds import worker_task


@worker_task("check-data")
def check_data_first() -> None:
    """Check that the workload's data can be used for training and selection.

    Raises:
        InputError: they cannot; with what is wrong and what to change.
    """
    session = current_session()
    session.workers.run(check_data, session.plan.workload)


@worker_task("check-before-merging")
def check_before_merging(ingredients: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Check the ingredients of a sweep; return the check's entry in the sweep's manifest.

    Args:
        ingredients: their entries in the manifest.

    Raises:
        StageFailed: a check failed and `on_fail` is stop, or too few ingredients can be merged.
    """
    session = current_session()
    job = session.plan.precheck_job([Model.from_json(entry) for entry in ingredients])
    result = session.run_in_steps("check before merging", check_ingredients, job)
    return require_enough(job, result, session.plan.experiment.sweep.min_ingredients)
