"""Pretraining the base and fine-tuning the ingredients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import State

from stockpot.errors import StageFailed
from stockpot.experiment.jobs.job import ModelJob
from stockpot.experiment.jobs.proposing import propose
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.storage.models import Failure, Model
from tasks.models import WORKER_FAILED, ModelFailed, make_in_worker
from tasks.session import current_session
from tasks.task_kinds import local_task, worker_task


@worker_task("train", "train-{job.name}")
def train_model(job: TrainingJob) -> Model | State[Model]:
    """Train the model of a job in a worker process, unless the store has it."""
    limit = current_session().plan.experiment.sweep.timeout_seconds
    return make_in_worker(job, limit)


@worker_task("propose-ingredients")
def next_ingredients(
    jobs: Sequence[TrainingJob], outcomes: Sequence[Model | Exception]
) -> list[TrainingJob]:
    """Return the next round of a sweep with `search: soup`; none if the sweep is complete."""
    session = current_session()
    models = [None if isinstance(outcome, Exception) else outcome for outcome in outcomes]
    job = session.plan.proposal_job(jobs, models)
    if job is None:
        return []
    return session.plan.fine_tuning_jobs(session.workers.run(propose, job), first=len(jobs))


def snapshots_of(
    jobs: Sequence[TrainingJob], outcomes: Sequence[Model | Exception]
) -> list[TrainingJob]:
    """Return the jobs of the snapshots of all runs that succeeded."""
    return [
        snapshot
        for job, outcome in zip(jobs, outcomes, strict=True)
        if isinstance(outcome, Model)
        for snapshot in job.snapshot_jobs
    ]


@local_task("check-ingredients")
def enough_ingredients(
    jobs: Sequence[ModelJob], outcomes: Sequence[Model | Exception]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split the outcomes of a sweep into manifest entries of ingredients and of failures.

    Raises:
        StageFailed: fewer than `sweep.min_ingredients` succeeded.
        Exception: an error that is not the failure of one ingredient.
    """
    ingredients = [outcome.to_json() for outcome in outcomes if isinstance(outcome, Model)]
    failures = _failures(jobs, outcomes)
    needed = current_session().plan.experiment.sweep.min_ingredients
    if len(ingredients) < needed:
        raise StageFailed(
            f"sweep: {len(ingredients)} of {len(jobs)} ingredients are good, "
            f"sweep.min_ingredients is {needed}; narrow sweep.space or lower it\n"
            f"{_reasons(failures)}"
        )
    return ingredients, [failure.to_json() for failure in failures]


@local_task("check-phase")
def models_of_phase(
    jobs: Sequence[TrainingJob], outcomes: Sequence[Model | Exception]
) -> tuple[list[Model], list[Failure]]:
    """Split the outcomes of a phase into its models, which are averaged, and its failures.

    Raises:
        StageFailed: no model succeeded.
        Exception: an error that is not the failure of one model.
    """
    models = [outcome for outcome in outcomes if isinstance(outcome, Model)]
    failures = _failures(jobs, outcomes)
    if not models:
        raise StageFailed(
            f"sweep: none of {len(jobs)} models of a phase is good; narrow sweep.space\n"
            f"{_reasons(failures)}"
        )
    return models, failures


def _failures(jobs: Sequence[ModelJob], outcomes: Sequence[Model | Exception]) -> list[Failure]:
    return [
        _failure_of(job, outcome)
        for job, outcome in zip(jobs, outcomes, strict=True)
        if isinstance(outcome, Exception)
    ]


def _reasons(failures: Sequence[Failure]) -> str:
    return "\n".join(f"  {failure.name}: {failure.reason}" for failure in failures)


def _failure_of(job: ModelJob, error: Exception) -> Failure:
    """Return the failure of one job; raise an error of any other kind."""
    if isinstance(error, ModelFailed):
        return error.failure
    if isinstance(error, WORKER_FAILED):
        failure = job.failure(str(error), final=False)
        current_session().log(failure, job.parents)
        return failure
    raise error
