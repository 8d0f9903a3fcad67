"""The Prefect server that runs report to: does it answer, and does it start what is scheduled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import prefect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import WorkPoolStatus
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from stockpot.errors import reason_of
from stockpot.experiment.doctor.clock import check_clock
from stockpot.experiment.doctor.outcome import Outcome
from stockpot.tracking.addresses import redacted
from tasks.flow_runs import TAG, dead_runs

LEASES_ON_DISK = "prefect.server.concurrency.lease_storage.filesystem"
"""The setting of a server, `server.concurrency.lease_storage`, with which it may be restarted."""

# The server's scheduler works once a minute: only then does a deployment without runs tell of it.
_SCHEDULED_WITHIN = timedelta(minutes=3)


def check_server(url: str) -> Iterator[Outcome]:
    """Check the server at PREFECT_API_URL, its scheduler, and the workers of its deployments.

    Args:
        url: the value of PREFECT_API_URL.
    """
    with get_client(sync_client=True) as client:
        if error := client.api_healthcheck():
            advice = "start it with `prefect server start`, or unset PREFECT_API_URL"
            if isinstance(error, PrefectHTTPStatusError) and error.response.status_code == 401:
                advice = "set PREFECT_API_AUTH_STRING to the one that the server was started with"
            yield Outcome("problem", "Prefect", f"{redacted(url)}: {reason_of(error)}", advice)
            return
        answer = client.request("GET", "/admin/version")
        yield _version(url, str(answer.json()))
        yield from check_clock("Prefect", answer.headers.get("Date"))
        yield from check_deployments(client)
        yield check_runs()
        yield check_slots(client)


def _version(url: str, version: str) -> Outcome:
    found = f"{redacted(url)} answers, version {version}"
    if version.split(".")[:2] == prefect.__version__.split(".")[:2]:
        return Outcome("ok", "Prefect", found)
    advice = f"this client is {prefect.__version__}: install the same version on both sides"
    return Outcome("note", "Prefect", found, advice)


def check_runs() -> Outcome:
    """Check that no run of this machine is called running whose process is dead."""
    dead = dead_runs()
    if not dead:
        return Outcome("ok", "runs", "none is dead that is called running")
    names = ", ".join(f"{run.name} in {run.root}" for run in dead)
    advice = "the next run of a project, and `stockpot worker` at its start, mark them as crashed"
    return Outcome("problem", "runs", f"called running, but their processes died: {names}", advice)


def check_slots(client: SyncPrefectClient) -> Outcome:
    """Check that a restarted server still knows which runs hold their projects."""
    if not forgets_slots(client):
        return Outcome("ok", "restarts", "the server keeps on disk which runs hold a project")
    advice = (
        "start it with PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE="
        f"{LEASES_ON_DISK}, or in a folder whose prefect.toml says so"
    )
    return Outcome("note", "restarts", "a restart of the server ends deployed runs", advice)


def forgets_slots(client: SyncPrefectClient) -> bool:
    """Return whether the server forgets who holds a concurrency slot when it is restarted."""
    settings = client.request("GET", "/admin/settings").json()
    return bool(settings["server"]["concurrency"]["lease_storage"] != LEASES_ON_DISK)


def check_deployments(client: SyncPrefectClient) -> Iterator[Outcome]:
    """Check that runs of the deployments are scheduled, and that a worker will start them."""
    tagged = DeploymentFilter.model_validate({"tags": {"all_": [TAG]}})
    deployments = client.read_deployments(deployment_filter=tagged)
    active = [each for each in deployments if _has_schedule(each)]
    if not active:
        yield Outcome("ok", "schedules", f"none; deployments of stockpot: {len(deployments)}")
        return
    yield from _check_scheduler(client, active)
    for pool in sorted({each.work_pool_name for each in active if each.work_pool_name}):
        yield _check_pool(client, pool)


def _has_schedule(deployment: DeploymentResponse) -> bool:
    return not deployment.paused and any(each.active for each in deployment.schedules)


def _check_scheduler(
    client: SyncPrefectClient, active: Sequence[DeploymentResponse]
) -> Iterator[Outcome]:
    """Check that the server has scheduled runs of deployments with an active schedule."""
    unscheduled = [each for each in active if not _scheduled(client, each)]
    now = datetime.now(UTC)
    stale = [e.name for e in unscheduled if e.updated and now - e.updated > _SCHEDULED_WITHIN]
    if stale:
        found = f"no run is scheduled of {', '.join(stale)}, whose schedule is active"
        advice = (
            "the server's scheduler does not work: look for errors in the server's log; where it "
            "runs, SQLAlchemy must be below 2.1 (`pip install 'SQLAlchemy<2.1'`); restart it"
        )
        yield Outcome("problem", "scheduler", found, advice)
    elif unscheduled:
        names = ", ".join(each.name for each in unscheduled)
        advice = "the scheduler works once a minute: look again in 3 minutes"
        yield Outcome("note", "scheduler", f"no run is scheduled yet of {names}", advice)
    else:
        yield Outcome("ok", "scheduler", f"runs are scheduled of {len(active)} deployments")


def _scheduled(client: SyncPrefectClient, deployment: DeploymentResponse) -> bool:
    wanted = {
        "deployment_id": {"any_": [str(deployment.id)]},
        "state": {"type": {"any_": ["SCHEDULED"]}},
    }
    return bool(
        client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted), limit=1)
    )


def _check_pool(client: SyncPrefectClient, name: str) -> Outcome:
    """Check that a worker polls a work pool."""
    start = f"start a worker: `stockpot worker --pool {name}`"
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        create = f"`prefect work-pool create {name} --type process`, then {start}"
        return Outcome("problem", "work pool", f"{name} does not exist", create)
    if pool.is_paused:
        found = f"{name} is paused: no run starts"
        return Outcome("note", "work pool", found, f"`prefect work-pool resume {name}`")
    if pool.status is not WorkPoolStatus.READY:
        return Outcome("problem", "work pool", f"no worker polls {name}: no run starts", start)
    return Outcome("ok", "work pool", f"a worker polls {name}")
