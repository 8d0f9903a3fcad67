"""Flow runs in Prefect: how they are named and tagged, and which of them have died.

The process of a flow run holds a lease on disk. A run that Prefect calls running, but whose lease
is free, was killed: `end_dead_runs` says so to Prefect, which frees the run's concurrency slot.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Crashed

from stockpot.experiment.plan import Plan
from stockpot.storage.leases import drop_dead_leases, has_living_process, take_lease

TAG = "stockpot"
_STARTS_WITHIN = timedelta(seconds=60)  # a run takes its lease in the first seconds
_PAGE = 200  # Prefect's server returns at most so many runs at once


@dataclass(frozen=True, slots=True)
class DeadRun:
    """A flow run whose process was killed.

    Attributes:
        name: as in Prefect's UI, e.g. `digits-seed-0`.
        run_id: Prefect's id.
        root: folder of the project.
    """

    name: str
    run_id: UUID
    root: Path


def project_tag(root: Path) -> str:
    """Return the tag of a project: its machine and its folder."""
    return f"{socket.gethostname()}:{root}"


def project_tags(root: Path) -> set[str]:
    """Return the tags that a project's flow runs have in Prefect's UI."""
    return {TAG, project_tag(root)}


def run_name(plan: Plan) -> str:
    """Return the name of the flow runs of an experiment."""
    return f"{plan.experiment.workload.name}-seed-{plan.experiment.seed}"


def hold_lease(root: Path, run_id: str) -> None:
    """Show other processes of this machine that a flow run of a project is alive."""
    take_lease(_leases(root), run_id)


def dead_runs(held: Path | None = None) -> list[DeadRun]:
    """Find the runs of all projects on this machine that were killed, but not so in Prefect.

    A run without any lease counts as killed if it has been running for a minute, or if its project
    is `held`: whoever may run without a lease holds the project's run lock. A run of a deployment
    never counts in its first minute, nor before it has begun: the server watches those.

    Args:
        held: folder of the project whose run lock this process holds.
    """
    with get_client(sync_client=True) as client:
        return [
            DeadRun(run.name, run.id, root)
            for run in _unfinished_runs(client)
            if (root := _root_on_this_machine(run)) is not None and _is_dead(run, root, held)
        ]


def end_dead_runs(held: Path | None = None) -> list[DeadRun]:
    """Mark those runs as crashed; return them.

    Args:
        held: as for `dead_runs`; the leases of its ended runs are deleted.
    """
    dead = dead_runs(held)
    with get_client(sync_client=True) as client:
        for run in dead:
            state: State[None] = Crashed(message="its process was killed")
            client.set_flow_run_state(run.run_id, state, force=True)
    for root in {run.root for run in dead} | ({held} if held else set()):
        drop_dead_leases(_leases(root))
    return dead


def _unfinished_runs(client: SyncPrefectClient) -> list[FlowRun]:
    started = FlowRunFilter.model_validate(
        {
            "tags": {"all_": [TAG]},
            "state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}},
        }
    )
    runs: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=started, limit=_PAGE, offset=len(runs)):
        runs += page
    return runs


def _root_on_this_machine(run: FlowRun) -> Path | None:
    """Return the project of a run from its tag; None if it ran, or will run, elsewhere."""
    prefix = project_tag(Path("/")).removesuffix("/")
    roots = [tag.removeprefix(prefix) for tag in run.tags if tag.startswith(prefix)]
    return Path(roots[0]) if roots else None


def _is_dead(run: FlowRun, root: Path, held: Path | None) -> bool:
    assert run.state is not None  # it is unfinished
    is_young = datetime.now(UTC) - run.state.timestamp <= _STARTS_WITHIN
    if run.deployment_id is not None and (run.state.is_pending() or is_young):
        return False  # started again, its new process may not have taken over the lease yet
    is_alive = has_living_process(_leases(root), str(run.id))
    if is_alive is None:
        return root == held or not is_young
    return not is_alive


def _leases(root: Path) -> Path:
    return root / ".stockpot" / "flow-runs"
