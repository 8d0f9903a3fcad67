"""Tracking records that wait in the outbox because the MLflow server was away."""

from __future__ import annotations

from stockpot.experiment.opening import open_tracker
from stockpot.experiment.plan import Plan
from stockpot.tracking.addresses import checked_uri
from stockpot.tracking.outbox import Waiting, count_waiting
from stockpot.tracking.tracker import OUTBOX


def waiting_records(plan: Plan) -> Waiting:
    """Count the records that wait in a project, without asking the server."""
    uri, experiment = checked_uri(plan.tracking_uri), plan.experiment.track.experiment
    return count_waiting(plan.project.state / OUTBOX, uri, experiment)


def send_waiting(plan: Plan) -> tuple[int, int]:
    """Send the records that wait for the project's store and experiment.

    The store is opened only if there are any. If it does not answer, a warning says why.

    Returns:
        Numbers of records that were sent, and that still wait.

    Raises:
        InputError: the store answers, but cannot be used.
        StageFailed: the store refused a record.
    """
    before = waiting_records(plan).here
    if not before:
        return 0, 0
    left = open_tracker(plan, offline=True).pending
    return max(before - left, 0), left  # a run may have added some
