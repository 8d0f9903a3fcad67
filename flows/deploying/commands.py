"""The commands `deploy` and `worker`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.options import Params
from flows.terminal import ERR, OUT, show_next

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse


def deploy(
    notify: Annotated[
        str | None,
        typer.Option(
            "--notify",
            metavar="ADDRESS",
            help="Of a webhook that gets a message when a run fails; or TYPE/NAME of a block.",
        ),
    ] = None,
    params: Params = None,
) -> None:
    """Put the deployments of prefect.yaml on the Prefect server at PREFECT_API_URL.

    Work pools that are missing are created. At most one run of the project works at a time. Runs
    whose process dies are marked as crashed within two minutes, and started again if their
    deployment has the tag retry-after-crash. The same command deploys changes.

    stockpot deploy --notify https://chat.example.org/hooks/soups
    """
    from stockpot.experiment.opening import make_plan

    root = make_plan(params, []).project.root
    from flows.deploying.automations import notify_of_failures, watch_runs
    from flows.deploying.description import read_description
    from flows.deploying.server import (
        chosen_server,
        create_pools,
        put_deployments,
        refuse_names_of_others,
        share_one_slot,
    )
    from tasks.flow_runs import end_dead_runs, project_tag
    from tasks.server_checks import check_slots

    description = read_description(root)
    with chosen_server("deploy") as client:
        refuse_names_of_others(client, description)
        create_pools(client, description.pools)
        put_deployments(description)
        own = share_one_slot(client, description)
        watch_runs(client, description.seconds_to_start)
        if notify is not None:
            notify_of_failures(client, project_tag(root), [each.id for each in own], notify)
        end_dead_runs()
        restarts = check_slots(client)
        if restarts.level != "ok":
            ERR.print(f"{restarts.found}: {restarts.advice}", style="yellow")
        _show(client, own)
    show_next(f"stockpot worker --pool {description.pools[0]}")


def _show(client: SyncPrefectClient, deployments: Sequence[DeploymentResponse]) -> None:
    table = Table("deployment", "schedule", "pool", box=None)
    for each in deployments:
        schedules = [getattr(found.schedule, "cron", "interval") for found in each.schedules]
        name = f"{client.read_flow(each.flow_id).name}/{each.name}"
        table.add_row(name, ", ".join(schedules), each.work_pool_name)
    OUT.print(table)


def worker(
    pool: Annotated[
        str, typer.Option("--pool", help="The work pool whose runs it does.")
    ] = "local",
) -> None:
    """Run a Prefect worker until Ctrl-C; it does the runs of all projects on a pool.

    Runs that an earlier worker of this machine left behind are marked as crashed first.

    stockpot worker --pool local
    """
    from stockpot.storage.project import silence_telemetry

    silence_telemetry()  # before Prefect is imported
    from flows.deploying.server import require_server
    from tasks.flow_runs import end_dead_runs

    require_server("worker")
    for run in end_dead_runs():
        OUT.print(f"Crashed: {run.name} in {run.root}, whose process was killed")
    # It replaces this process, so that signals reach it.
    os.execv(sys.executable, [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool])
