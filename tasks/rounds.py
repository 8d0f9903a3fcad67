"""Ingredients that are made in rounds: train the clients, merge their models, record both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import State

from stockpot.experiment.federation import ClientJob
from stockpot.experiment.jobs.rounds import RoundsJob, begin, merge_or_fail, take_part
from stockpot.storage.models import Model
from tasks.models import make_in_worker
from tasks.session import current_session
from tasks.task_kinds import worker_task


@worker_task("begin-rounds", "begin-{job.name}")
def remaining_rounds(job: RoundsJob) -> range:
    """Prepare the rounds of a job, record those that are done, and return the numbers of others.

    Raises:
        InputError: train has fewer examples than there are clients.
    """
    if job.is_over:
        return range(0)
    done = current_session().workers.run(begin, job)
    for record in job.federation.files.records():  # a killed run may not have recorded its last one
        _record(job, record)
    return range(done + 1, job.rounds + 1)


@worker_task("client", "{job.name}")
def train_client(job: ClientJob) -> None:
    """Do the local steps of a client in a worker process, unless they are done."""
    session = current_session()
    limit = session.plan.experiment.sweep.timeout_seconds
    session.workers.run(take_part, job, timeout_seconds=limit)


@worker_task("merge-round", "merge-{job.name}-round-{number}")
def merge_round(job: RoundsJob, number: int) -> bool:
    """Merge the models of a round and record it; return whether the rounds can go on."""
    current_session().workers.run(merge_or_fail, job, number)
    if job.known_failure():
        return False
    _record(job, job.federation.files.record(number))
    return True


@worker_task("finish-rounds", "finish-{job.name}")
def finish_rounds(job: RoundsJob) -> Model | State[Model]:
    """Save the model after the last round as an ingredient, unless the store has it."""
    return make_in_worker(job)


def _record(job: RoundsJob, record: Mapping[str, Any]) -> None:
    """Record a finished round in MLflow, once."""
    from stockpot.tracking.rounds import record_of_round

    session, federation = current_session(), job.federation
    session.tracker.log_model(
        record_of_round(
            job.name,
            federation.key,
            record,
            metric=session.plan.metric,
            base=federation.base.key,
            val=session.dataset("val"),
        )
    )
