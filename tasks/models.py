"""Have a worker make a model and record it: shared by training, importing, merging and tuning."""

from __future__ import annotations

import time
from typing import Any, ParamSpec

from prefect import State, Task
from prefect.logging import get_run_logger
from prefect.states import Completed

from stockpot.experiment.jobs.job import ModelJob, make_model
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.storage.models import Failure, Model
from stockpot.workers import WorkerLost
from tasks.session import current_session
from tasks.task_kinds import worker_task

P = ParamSpec("P")

WORKER_FAILED = (WorkerLost, TimeoutError)
"""A worker died or took too long: another run may succeed."""


class ModelFailed(RuntimeError):
    """A job ended without a model.

    Attributes:
        failure: its record, with the reason.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def make_in_worker(job: ModelJob, timeout_seconds: float | None = None) -> Model | State[Model]:
    """Make the model of a job in a worker process, and record it in MLflow.

    Args:
        job: the model to make.
        timeout_seconds: after which the worker is killed.

    Returns:
        The model; in a state named "Skipped" if the store had it.

    Raises:
        ModelFailed: the model cannot be made.
        WorkerLost: the worker died.
        TimeoutError: it took too long.
    """
    session = current_session()
    is_stored = job.find() is not None
    start = time.monotonic()
    made = session.run_in_steps(job.name, make_model, job, timeout_seconds=timeout_seconds)
    provenance = "" if isinstance(made, Failure) else job.provenance(made).to_text()
    seconds = 0.0 if is_stored else time.monotonic() - start
    session.log(made, job.parents, seconds, provenance)
    if isinstance(made, Failure):
        raise ModelFailed(made)
    scores = ", ".join(f"{name} {score:.3f}" for name, score in made.scores.items())
    get_run_logger().info("%s: %s", made.name, scores)
    return Completed(name="Skipped", message="in the store", data=made) if is_stored else made


def outcome_of(task: Task[P, Any], *args: P.args, **kwargs: P.kwargs) -> Any:
    """Call a task; return its result, or why one model has failed.

    Raises:
        Exception: an error that is not the failure of one model.
    """
    outcome = task.submit(*args, **kwargs).result(raise_on_failure=False)
    if isinstance(outcome, Exception) and not isinstance(outcome, (ModelFailed, *WORKER_FAILED)):
        raise outcome
    return outcome


@worker_task("make-soup", "soup-{job.name}")
def merge_soup(job: SoupJob) -> Model | State[Model]:
    """Select ingredients on val and merge them, unless the store has the soup."""
    return make_in_worker(job)


@worker_task("tune", "tune-{job.name}")
def tune_soup(job: TuningJob) -> Model | State[Model]:
    """Search merge coefficients on val, unless the store has the soup."""
    return make_in_worker(job)
