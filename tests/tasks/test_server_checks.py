"""`stockpot doctor` finds faults that are injected into a Prefect server."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from stockpot.experiment.doctor.outcome import Outcome
from tasks import server_checks
from tasks.server_checks import check_server


@flow
def nightly() -> None:
    """Do nothing."""


@pytest.fixture
def client(prefect_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncPrefectClient]:
    """Return a client of the server, on which no deployment of stockpot is left."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_url)
    with temporary_settings({PREFECT_API_URL: prefect_url}), get_client(sync_client=True) as opened:
        yield opened
        tagged = DeploymentFilter.model_validate({"tags": {"all_": ["stockpot"]}})
        for deployment in opened.read_deployments(deployment_filter=tagged):
            opened.delete_deployment(deployment.id)


def deploy(client: SyncPrefectClient, pool: str) -> uuid.UUID:
    """Create a deployment with an hourly schedule on a work pool."""
    return client.create_deployment(
        client.create_flow(nightly),
        name=f"nightly-{pool}",
        schedules=[DeploymentScheduleCreate(schedule=CronSchedule(cron="0 * * * *"), active=True)],
        tags=["stockpot"],
        work_pool_name=pool,
    )


def unschedule(client: SyncPrefectClient, deployment: uuid.UUID) -> None:
    """Delete the runs that the server has scheduled; its scheduler comes again in a minute."""
    wanted = FlowRunFilter.model_validate({"deployment_id": {"any_": [str(deployment)]}})
    for run in client.read_flow_runs(flow_run_filter=wanted):
        client.delete_flow_run(run.id)


def found(name: str) -> Outcome:
    (outcome,) = [each for each in check_server(os.environ["PREFECT_API_URL"]) if each.name == name]
    return outcome


class Unauthorized(BaseHTTPRequestHandler):
    """Refuses every request."""

    def do_GET(self) -> None:
        self.send_response_only(401)
        self.end_headers()


def test_a_server_that_refuses_the_credentials_is_a_problem_that_does_not_show_them() -> None:
    with HTTPServer(("127.0.0.1", 0), Unauthorized) as server:
        Thread(target=server.handle_request).start()
        url = f"http://anna:s3cret@127.0.0.1:{server.server_port}/api"
        with temporary_settings({PREFECT_API_URL: url}):
            (outcome,) = check_server(url)

    assert outcome.level == "problem"
    assert "401 Unauthorized" in outcome.found
    assert "s3cret" not in outcome.found
    assert "PREFECT_API_AUTH_STRING" in outcome.advice


@pytest.mark.full
@pytest.mark.usefixtures("client")
def test_a_server_that_answers_is_told_with_its_version_and_clock() -> None:
    outcomes = {each.name: each.level for each in check_server(os.environ["PREFECT_API_URL"])}

    expected = {"Prefect": "ok", "clock": "ok", "schedules": "ok", "restarts": "note"}
    assert expected.items() <= outcomes.items()


@pytest.mark.full
def test_a_deployment_of_which_no_run_is_scheduled_means_that_the_scheduler_has_failed(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_work_pool(WorkPoolCreate(name="p1", type="process"))
    deployment = deploy(client, "p1")
    unschedule(client, deployment)
    soon = found("scheduler")
    monkeypatch.setattr(server_checks, "_SCHEDULED_WITHIN", timedelta(0))
    unschedule(client, deployment)

    late = found("scheduler")

    assert soon.level == "note"
    assert late.level == "problem"
    assert late.found == "no run is scheduled of nightly-p1, whose schedule is active"
    assert "pip install 'SQLAlchemy<2.1'" in late.advice


@pytest.mark.full
def test_a_pool_without_worker_is_a_problem_until_one_polls_it(client: SyncPrefectClient) -> None:
    client.create_work_pool(WorkPoolCreate(name="p2", type="process"))
    deploy(client, "p2")
    without = found("work pool")

    client.send_worker_heartbeat("p2", worker_name="w", heartbeat_interval_seconds=30)

    assert without.level == "problem"
    assert without.found == "no worker polls p2: no run starts"
    assert "`stockpot worker --pool p2`" in without.advice
    assert found("work pool").level == "ok"


@pytest.mark.full
def test_a_paused_deployment_needs_no_scheduler(client: SyncPrefectClient) -> None:
    client.create_work_pool(WorkPoolCreate(name="p3", type="process"))
    client.pause_deployment(deploy(client, "p3"))

    assert found("schedules").found == "none; deployments of stockpot: 1"


def test_a_server_that_is_away_is_a_problem_whose_password_is_not_shown() -> None:
    url = "http://anna:s3cret@127.0.0.1:9/api"

    with temporary_settings({PREFECT_API_URL: url}):
        (outcome,) = check_server(url)

    assert outcome.level == "problem"
    assert outcome.found.startswith("http://***@127.0.0.1:9/api: ")
    assert "s3cret" not in str(outcome)
