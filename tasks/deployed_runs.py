"""Runs that a deployment started: their project, their name, and their states in Prefect."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Running

from stockpot.errors import StageFailed
from stockpot.experiment.opening import make_plan
from stockpot.experiment.plan import Plan
from stockpot.storage.locks import run_lock
from stockpot.storage.project import ROOT_VARIABLE, Project, find_project
from tasks.flow_runs import end_dead_runs, hold_lease, project_tags, run_name
from tasks.run_settings import flow_session
from tasks.session import Session

MOST_STARTS = 3
"""How often a run is started again by itself after its process died, the first start included."""


class Settings(Protocol):
    """The parameters of a deployed flow."""

    @property
    def params(self) -> str:
        """The params file, relative to the project's folder."""

    def to_overrides(self) -> tuple[str, ...]:
        """Return what they change in it, as `field.subfield=value` each."""


@contextmanager
def deployed_run(settings: Settings, kind: str = "") -> Iterator[Plan]:
    """Plan this flow run, and hold its project; until the project is free, its state is Waiting.

    Args:
        settings: the parameters of the flow.
        kind: of the run, the start of its name; empty for an experiment, whose runs have the name
            that `stockpot run` gives.

    Raises:
        InputError: there is no project, or the experiment is not valid.
        StageFailed: the process of this run died too often.
    """
    project = _deployed_project(settings.params)
    plan = make_plan(settings.params, settings.to_overrides())
    name = f"{kind}-{run_name(plan)}" if kind else run_name(plan)
    with get_client(sync_client=True) as client:
        client.set_flow_run_name(UUID(flow_run.id), name)  # until now it has a random one
    with _waiting_for(project, name):
        yield plan


@contextmanager
def deployed_session(settings: Settings) -> Iterator[Session]:
    """Open the session of this flow run, an experiment.

    Raises:
        InputError: as for `deployed_run`; or the tracking server does not answer.
        StageFailed: as for `deployed_run`.
    """
    with (
        deployed_run(settings),
        flow_session(settings.params, settings.to_overrides()) as session,
    ):
        yield session


def _deployed_project(params: str) -> Project:
    """Find the project of this flow run, and show that the run is alive.

    The project is the deployment's, whatever the worker's environment says.

    Args:
        params: the params file, relative to the working directory.

    Raises:
        InputError: there is no project in the working directory.
        StageFailed: the process of this run died too often.
    """
    run_id = UUID(flow_run.id)
    with get_client(sync_client=True) as client:
        _use_root_of_deployment(client, run_id)
        project = find_project(Path(params))
        hold_lease(project.root, str(run_id))
        run = client.read_flow_run(run_id)
        client.update_flow_run(run_id, tags={*run.tags, *project_tags(project.root)})
        deaths = [state for state in client.read_flow_run_states(run_id) if state.is_crashed()]
        if len(deaths) >= MOST_STARTS:
            raise StageFailed(
                f"the process of this run died {MOST_STARTS} times, and is not started again; see "
                "the worker's log for the reason (out of memory?), then trigger a new run"
            )
    return project


@contextmanager
def _waiting_for(project: Project, name: str) -> Iterator[None]:
    """Hold the project's run lock; while another run holds it, this run's state is Waiting.

    Args:
        project: the project.
        name: of this run, for those that wait for it.
    """
    states = _States()
    with run_lock(project.run_lock, f"deployed run {name}", states.wait):
        states.run()
        end_dead_runs(project.root)
        yield


class _States:
    """The states of this flow run while it waits and afterwards."""

    def __init__(self) -> None:
        self._is_waiting = False

    def wait(self, holder: str) -> None:
        """Show that this run waits, and for whom."""
        reason = f"Another run has this project: {holder}. Waiting for it to end."
        get_run_logger().warning(reason)
        self._set(Running(name="Waiting", message=reason))
        self._is_waiting = True

    def run(self) -> None:
        """Show that this run works, if it had to wait."""
        if self._is_waiting:
            get_run_logger().info("The project is free.")
            self._set(Running())

    def _set(self, state: State[None]) -> None:
        with get_client(sync_client=True) as client:
            # Not by force: the server would forget the lease of the run's slot.
            client.set_flow_run_state(UUID(flow_run.id), state)


def _use_root_of_deployment(client: SyncPrefectClient, run_id: UUID) -> None:
    """Forget a root that the worker's environment names and the deployment does not.

    Without a root in its job variables, a deployment's project is its working directory.
    """
    run = client.read_flow_run(run_id)
    if run.deployment_id is None:
        return
    deployment = client.read_deployment(run.deployment_id)
    variables = (deployment.job_variables or {}) | (run.job_variables or {})
    root = (variables.get("env") or {}).get(ROOT_VARIABLE)
    if root is None:
        os.environ.pop(ROOT_VARIABLE, None)
    else:
        os.environ[ROOT_VARIABLE] = root
