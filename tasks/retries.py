"""Which tasks are tried again: those whose worker process was lost, and no others."""

from __future__ import annotations

from typing import Any

from prefect import State, Task
from prefect.client.schemas.objects import TaskRun

from stockpot.workers import WorkerLost


def worker_was_lost(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Say whether another try can help: the error of a job would only come again."""
    return isinstance(state.result(raise_on_failure=False), WorkerLost)
