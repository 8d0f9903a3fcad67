"""Checks that the soups and searches of an experiment are for its workload's task."""

from __future__ import annotations

from collections.abc import Sequence

from stockpot.config import Experiment
from stockpot.errors import InputError
from stockpot.soups.preparation.options import check_preparation
from stockpot.workloads.protocol import TASKS, Workload


def check_tasks(experiment: Experiment, workload: Workload) -> None:
    """Check before any work what would otherwise end a stage.

    Raises:
        InputError: a soup's preparation or a search is for other tasks; the message has the name
            of the soup.
    """
    for recipe in experiment.soups:
        try:
            check_preparation(recipe.merge_method, recipe.merge_options, workload)
        except InputError as error:
            raise InputError(f"soups: {recipe.name!r}: {error}") from error
    for study in experiment.tune:
        tasks: Sequence[str] = getattr(study.build(), "tasks", TASKS)
        if workload.task not in tasks:
            raise InputError(
                f"tune: {study.name!r}: {study.search} must have a workload of "
                f"{' or '.join(tasks)}, got the task {workload.task!r}; use search: optuna"
            )
