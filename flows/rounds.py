"""Ingredients in rounds: clients train, their models are merged, and they go on from the merge."""

from __future__ import annotations

from stockpot.experiment.jobs.rounds import RoundsJob
from stockpot.storage.models import Model
from tasks.fan_out import side_by_side
from tasks.models import outcome_of
from tasks.rounds import finish_rounds, merge_round, remaining_rounds, train_client
from tasks.session import Session


def merge_in_rounds(session: Session) -> tuple[list[RoundsJob], list[Model | Exception]]:
    """Make the ingredients of `sweep.rounds`; return the jobs and their outcomes.

    The clients of a round train side by side; one whose worker is lost, also after
    `sweep.retries`, is left out of it. A killed run continues within its round. Jobs with fewer
    rounds come first: one that differs in the number of rounds alone continues from there.
    """
    jobs = session.plan.rounds_jobs()
    by_length = sorted(jobs, key=lambda job: job.rounds)
    retries = session.plan.experiment.sweep.retries
    outcomes = {job.name: _make_in_rounds(job, retries) for job in by_length}
    return jobs, [outcomes[job.name] for job in jobs]


def _make_in_rounds(job: RoundsJob, retries: int) -> Model | Exception:
    train = train_client.with_options(retries=retries)
    numbers = outcome_of(remaining_rounds, job)
    if isinstance(numbers, Exception):
        return numbers
    for number in numbers:
        clients = job.federation.client_jobs(number)
        trained = side_by_side(train, clients, f"{job.name} round {number}")
        failed: Exception | None = outcome_of(merge_round, job, number, clients, trained)
        if failed:
            return failed
    made: Model | Exception = outcome_of(finish_rounds, job)
    return made
