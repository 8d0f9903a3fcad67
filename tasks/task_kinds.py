"""The two kinds of Prefect tasks: those that call a worker process, and those that do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import State, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun

from stockpot.workers import WorkerLost

P = ParamSpec("P")
R = TypeVar("R")


def worker_task(name: str, run_name: str | None = None) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Decorate a function that calls a worker; it is retried once if the worker process is lost.

    Args:
        name: of the task in Prefect.
        run_name: of its runs; may refer to arguments, as in `train-{job.name}`.
    """
    return task(
        name=name,
        task_run_name=run_name,
        retries=1,
        retry_delay_seconds=1,
        retry_condition_fn=_worker_was_lost,
        cache_policy=NO_CACHE,
    )


def local_task(name: str, run_name: str | None = None) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Decorate a function that works in the main process; it is never retried."""
    return task(name=name, task_run_name=run_name, cache_policy=NO_CACHE)


def _worker_was_lost(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether a retry can help: the error of a job itself would only be raised again."""
    return isinstance(state.result(raise_on_failure=False), WorkerLost)
