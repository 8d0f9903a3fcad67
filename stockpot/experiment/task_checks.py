"""Checks that the soups and searches of an experiment are for its workload's task."""

from __future__ import annotations

from collections.abc import Sequence

from stockpot.config import Experiment
from stockpot.errors import InputError, unknown_name
from stockpot.soups.preparation.options import check_preparation
from stockpot.soups.selection.stopping import check_risk
from stockpot.soups.tuning.objectives import OBJECTIVES
from stockpot.soups.tuning.optuna_search import OptunaSearch
from stockpot.workloads.metric_ranges import range_of
from stockpot.workloads.protocol import TASKS, Workload


def check_tasks(experiment: Experiment, workload: Workload) -> None:
    """Check before any work what would otherwise end a stage.

    Raises:
        InputError: a soup's preparation or a search is for other tasks, or its risk for other
            metrics; the message has the name of the soup.
    """
    value_range = range_of(next(iter(workload.metrics.values())))
    for recipe in experiment.soups:
        try:
            check_preparation(recipe.merge_method, recipe.merge_options, workload)
            if recipe.select == "greedy":
                check_risk(recipe.settings["risk"], value_range)
        except InputError as error:
            raise InputError(f"soups: {recipe.name!r}: {error}") from error
    for study in experiment.tune:
        search = study.build()
        if isinstance(search, OptunaSearch):
            _check_search(study.name, search, workload)
        tasks: Sequence[str] = getattr(search, "tasks", TASKS)
        if workload.task not in tasks:
            raise InputError(
                f"tune: {study.name!r}: {study.search} must have a workload of "
                f"{' or '.join(tasks)}, got the task {workload.task!r}; use search: optuna"
            )


def _check_search(name: str, search: OptunaSearch, workload: Workload) -> None:
    """Check that the workload has the objectives and what the merge methods need.

    Raises:
        InputError: it does not.
    """
    known = [*OBJECTIVES, *workload.metrics]
    for objective in (*search.objectives, *(search.floor or {})):
        if objective not in known:
            raise InputError(f"tune: {name!r}: {unknown_name('objective', objective, known)}")
    for method in search.methods:
        try:
            check_preparation(method, {}, workload)
        except InputError as error:
            raise InputError(f"tune: {name!r}: {error}") from error
