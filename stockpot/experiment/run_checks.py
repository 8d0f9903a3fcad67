"""Checks that soups along a run have checkpoints of one."""

from __future__ import annotations

from stockpot.config import Experiment
from stockpot.errors import InputError
from stockpot.experiment.jobs.soups import merges_along_run


def check_runs(experiment: Experiment) -> None:
    """Check before any work that runs have checkpoints, if a soup merges along them.

    Raises:
        InputError: nothing is saved along the runs, and nothing is imported.
    """
    sweep = experiment.sweep
    for recipe in experiment.soups:
        has_some = sweep.snapshots or sweep.imports
        if not has_some and merges_along_run(recipe.merge_method):
            raise InputError(
                f"soups: {recipe.name!r}: {recipe.merge_method} merges checkpoints along one run, "
                "got sweep.snapshots 0; set it, or import checkpoints by sweep.import"
            )
