"""Looking things up in the tracking store, outside a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockpot.experiment.plan import Plan

if TYPE_CHECKING:
    from stockpot.tracking import Tracker


def open_tracker(plan: Plan) -> Tracker:
    """Open the project's tracking store, which has to answer; start no run.

    Raises:
        InputError: it does not answer, or cannot be used.
    """
    from stockpot.tracking import Tracker

    experiment = plan.experiment.track.experiment
    state = plan.project.state
    return Tracker.open(plan.tracking_uri, experiment, state, offline=False, tags={})
