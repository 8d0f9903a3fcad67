"""Looking things up in the tracking store, outside a run."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
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


def environment() -> dict[str, str]:
    """Return what the bits of weights may depend on besides the code, as tags of runs."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy")}
    machine = {"python": platform.python_version(), "machine": _processor()}
    return {f"stockpot.{name}": value for name, value in (versions | machine).items()}


def _processor() -> str:
    """Return the kind of processor: its instructions order sums, and so decide the last bits."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return ", ".join([platform.machine(), *models[:1]])
