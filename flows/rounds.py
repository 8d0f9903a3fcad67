"""Ingredients in rounds: clients train, their models are merged, and they go on from the merge."""

from __future__ import annotations

from stockpot.experiment.jobs.rounds import RoundsJob
from stockpot.storage.models import Model
from tasks.fan_out import all_results, side_by_side
from tasks.rounds import finish_rounds, merge_round, remaining_rounds, train_client
from tasks.session import Session


def merge_in_rounds(session: Session) -> tuple[list[RoundsJob], list[Model | Exception]]:
    """Make the ingredients of `sweep.rounds`; return the jobs and their outcomes.

    The clients of a round train side by side. A killed run continues within its round.
    """
    jobs = session.plan.rounds_jobs()
    for job in jobs:
        for number in remaining_rounds(job):
            clients = job.federation.client_jobs(number)
            all_results(side_by_side(train_client, clients, f"{job.name} round {number}"))

            if not merge_round(job, number):
                break
    return jobs, side_by_side(finish_rounds, jobs, "rounds") if jobs else []
