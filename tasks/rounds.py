"""Ingredients that are made in rounds: train the clients, merge their models, record both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from prefect import State

from stockpot.experiment.federation import ClientJob
from stockpot.experiment.jobs.rounds import RoundsJob, begin, merge_or_fail, take_part
from stockpot.storage.models import Failure, Model
from tasks.models import WORKER_FAILED, ModelFailed, make_in_worker
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
def merge_round(
    job: RoundsJob, number: int, clients: Sequence[ClientJob], trained: Sequence[Exception | None]
) -> None:
    """Merge the models of a round and record it, without clients whose worker was lost.

    Args:
        job: the rounds.
        number: of the round.
        clients: its participants.
        trained: per participant, why it has no model; None if it has finished.

    Raises:
        ModelFailed: the worker of every participant was lost, or the merge is not finite.
        Exception: a client has failed in another way.
    """
    _leave_out_lost(job, number, clients, trained)
    current_session().workers.run(merge_or_fail, job, number)
    if failure := job.known_failure():
        _fail(job, failure)
    _record(job, job.federation.files.record(number))


def _leave_out_lost(
    job: RoundsJob, number: int, clients: Sequence[ClientJob], trained: Sequence[Exception | None]
) -> None:
    """Record the clients whose worker was lost or took too long; they do not take part."""
    failed = {c.client: error for c, error in zip(clients, trained, strict=True) if error}
    for error in failed.values():
        if not isinstance(error, WORKER_FAILED):
            raise error
    reasons = {client: str(error) for client, error in failed.items()}
    if reasons and len(reasons) == len(clients):
        listed = "; ".join(f"client {client}: {reason}" for client, reason in reasons.items())
        reason = f"no participant of round {number} finished: {listed}"
        _fail(job, job.failure(reason, final=False))
    job.federation.files.save_lost(number, reasons)


def _fail(job: RoundsJob, failure: Failure) -> NoReturn:
    """Record that the ingredient cannot be made."""
    current_session().log(failure, job.parents)
    raise ModelFailed(failure)


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
