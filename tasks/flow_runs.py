"""Flow runs that an earlier process of this project left running: it was killed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import prefect
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import State, StateType
from prefect.states import Crashed


@contextmanager
def own_flow_runs(root: Path) -> Iterator[None]:
    """Tag the flow runs made inside with their project, after ending those of a killed process.

    The caller holds the project's run lock, so no other process of the project is at work.
    """
    tag = f"{socket.gethostname()}:{root}"
    _end_left_running(tag)
    with prefect.tags("stockpot", tag):
        yield


def _end_left_running(tag: str) -> None:
    unfinished = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    left = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag]), state=FlowRunFilterState(type=unfinished)
    )
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=left):
            state: State[None] = Crashed(name="Killed", message="its process was killed")
            client.set_flow_run_state(run.id, state, force=True)
