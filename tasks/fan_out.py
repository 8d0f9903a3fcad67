"""Run one task on many jobs at a time, with a progress bar, and collect all outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from prefect import Task
from prefect.futures import as_completed

from tasks.progress import stage_progress
from tasks.session import current_session

T = TypeVar("T")


class Job(Protocol):
    """The argument of a task."""

    @property
    def name(self) -> str:
        """Shown next to the progress bar."""
        ...


J = TypeVar("J", bound=Job)


def side_by_side(task: Task[[J], Any], jobs: Sequence[J], stage: str) -> list[Any]:
    """Submit a task for each job and wait for all of them.

    Args:
        task: a task with one argument, the job.
        jobs: its arguments.
        stage: label of the progress bar.

    Returns:
        For each job, in order, what the task returned, or the exception it failed with.
    """
    with stage_progress(current_session().console, stage, len(jobs)) as advance:
        futures = [task.submit(job) for job in jobs]
        names = {future.task_run_id: job.name for future, job in zip(futures, jobs, strict=True)}
        for done in as_completed(futures):
            advance(names[done.task_run_id])
        return [future.result(raise_on_failure=False) for future in futures]


def all_results(outcomes: Sequence[T | Exception]) -> list[T]:
    """Return the results if every task succeeded; raise the first failure otherwise."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
