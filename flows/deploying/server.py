"""A Prefect server as `stockpot deploy` uses it: pools, deployments, and their common limit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from flows.deploying.description import FILE, Description
from flows.server import answers
from stockpot.errors import InputError, StageFailed
from stockpot.storage.project import ROOT_VARIABLE
from stockpot.tracking.addresses import redacted
from tasks.flow_runs import TAG, project_tag

_PAGE = 200
_SECONDS_TO_ANSWER = 20  # a busy server may need some


@contextmanager
def chosen_server(purpose: str) -> Iterator[SyncPrefectClient]:
    """Connect to the server at PREFECT_API_URL.

    Raises:
        InputError: none is named, or it does not answer.
    """
    require_server(purpose)
    with get_client(sync_client=True) as client:
        yield client


def require_server(purpose: str) -> None:
    """Check that a server answers at PREFECT_API_URL.

    Raises:
        InputError: none is named, or it does not answer.
    """
    url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if not url:
        raise InputError(
            f"PREFECT_API_URL: {purpose} needs a Prefect server that stays; start one with "
            "`prefect server start`, and set the variable to http://127.0.0.1:4200/api"
        )
    if not answers(f"{url}/health", _SECONDS_TO_ANSWER):
        raise InputError(
            f"PREFECT_API_URL: no Prefect server answers at {redacted(url)!r}; start it with "
            "`prefect server start`"
        )


def create_pools(client: SyncPrefectClient, names: list[str]) -> None:
    """Create the work pools that the server lacks, for processes."""
    for name in names:
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=name, type="process"))


def refuse_names_of_others(client: SyncPrefectClient, description: Description) -> None:
    """Check that no deployment replaces that of another project.

    Raises:
        InputError: the server has one of this name, for another folder.
    """
    roots = {
        (each.name, each.entrypoint): description.root_of(each) for each in description.deployments
    }
    for found in _deployments(client):
        name = (found.name, found.entrypoint)
        if name in roots and _root_of(found) != roots[name]:
            raise InputError(
                f"{FILE}: deployment {found.name!r} must not be that of another project, got the "
                f"name of the one in {_root_of(found)}; choose another name, or delete the other "
                "one in Prefect's UI"
            )


def put_deployments(description: Description) -> None:
    """Create or replace the deployments of prefect.yaml, by Prefect's own command.

    Raises:
        StageFailed: it refused; with what it said.
    """
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        command,
        cwd=description.root,
        env=os.environ | {ROOT_VARIABLE: str(description.root), "PREFECT_CLI_PROMPT": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise StageFailed(f"{FILE}: `prefect deploy --all` refused it:\n{said}")


def share_one_slot(client: SyncPrefectClient, description: Description) -> list[DeploymentResponse]:
    """Give all deployments of a project one concurrency limit; return them, in their order.

    Prefect makes a limit per deployment, but two deployments work on one project, too.
    Deployments without the tag `stockpot` keep their limits.
    """
    known = {(each.name, each.entrypoint): each for each in _deployments(client)}
    names = [(each.name, each.entrypoint) for each in description.deployments]
    own = [known[name] for name in names if name in known]  # the others lack the tag
    tag = project_tag(description.root)
    name = re.sub("[/%&><]", ":", f"{TAG} {tag}")  # Prefect refuses these
    client.upsert_global_concurrency_limit_by_name(name, 1)
    limit = client.read_global_concurrency_limit_by_name(name)
    for deployment in own:
        replaced = deployment.global_concurrency_limit
        # The client has no argument for it yet.
        client.request(
            "PATCH",
            "/deployments/{id}",
            path_params={"id": deployment.id},
            json={"global_concurrency_limit_id": str(limit.id)},
        ).raise_for_status()
        if replaced is not None and replaced.id != limit.id and not replaced.active_slots:
            client.delete_global_concurrency_limit_by_name(replaced.name)
    return own


def _deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """List the deployments of all projects."""
    tagged = DeploymentFilter.model_validate({"tags": {"all_": [TAG]}})
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(deployment_filter=tagged, limit=_PAGE, offset=len(found)):
        found += page
    return found


def _root_of(deployment: DeploymentResponse) -> str | None:
    root = ((deployment.job_variables or {}).get("env") or {}).get(ROOT_VARIABLE)
    return None if root is None else str(root)
