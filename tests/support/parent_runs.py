"""The parent run of a tracker."""

from __future__ import annotations

from stockpot.tracking.store import PIPELINE
from stockpot.tracking.tracker import Tracker


def parent_run_id(tracker: Tracker) -> str:
    """Return MLflow's id of the parent run, which the store has."""
    run = tracker.store.find(PIPELINE, tracker.pipeline)
    assert run is not None
    return run.run_id
