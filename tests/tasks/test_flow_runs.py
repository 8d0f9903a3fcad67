"""Which flow runs of this machine are dead, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Running

from tasks.flow_runs import DeadRun, dead_runs, end_dead_runs, hold_lease, project_tags
from tasks.server_checks import check_runs

pytestmark = pytest.mark.full


@flow
def nothing() -> None:
    pass


@pytest.fixture
def client(prefect_url: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: prefect_url}), get_client(sync_client=True) as client:
        yield client


def start(client: SyncPrefectClient, tags: set[str]) -> UUID:
    """Create a run that is running, as far as the server knows."""
    run = client.create_flow_run(nothing, tags=tags, state=Running())
    return run.id


def test_runs_without_a_process_on_this_machine_are_marked_as_crashed(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    root, tags = tmp_path, project_tags(tmp_path)
    leases = root / ".stockpot" / "flow-runs"
    killed, alive, young = (start(client, tags) for _ in range(3))
    elsewhere = start(client, {"stockpot", f"another-machine:{root}"})
    strange = start(client, {"other", *(tags - {"stockpot"})})
    hold_lease(root, str(alive))
    (leases / str(killed)).touch()  # nobody holds it: as a process leaves it that is killed
    (leases / "of-an-ended-run").touch()

    found = [run for run in dead_runs() if run.root == root]
    told = check_runs()
    ended = end_dead_runs()

    assert found == [DeadRun(client.read_flow_run(killed).name, killed, root)]
    assert killed in {run.run_id for run in ended}
    state = client.read_flow_run(killed).state
    assert state is not None
    assert (state.name, state.message) == ("Crashed", "its process was killed")
    for run_id in (alive, young, elsewhere, strange):
        assert client.read_flow_run(run_id).state_name == "Running"
    with_the_lock = end_dead_runs(held=root)
    assert [run.run_id for run in with_the_lock if run.root == root] == [young]
    assert [path.name for path in leases.iterdir()] == [str(alive)]
    assert not [run for run in dead_runs() if run.root == root]
    assert told.level == "problem"
    assert f"in {root}" in told.found
