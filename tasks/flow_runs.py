"""Flow runs that a killed process of this project left running in Prefect."""

from __future__ import annotations

import socket
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import State
from prefect.states import Crashed


def project_tags(root: Path) -> set[str]:
    """Return the tags that a project's flow runs have in Prefect's UI."""
    return {"stockpot", f"{socket.gethostname()}:{root}"}


def end_left_running(root: Path) -> None:
    """Mark the flow runs of killed processes of this project as crashed.

    The caller holds the project's run lock, so no other process of the project is running.
    """
    left = FlowRunFilter.model_validate(
        {
            "tags": {"all_": sorted(project_tags(root))},
            "state": {"type": {"any_": ["RUNNING", "PENDING"]}},
        }
    )
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=left):
            state: State[None] = Crashed(name="Killed", message="its process was killed")
            client.set_flow_run_state(run.id, state, force=True)
