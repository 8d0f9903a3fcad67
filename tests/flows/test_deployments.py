"""Deployments on a Prefect server: what `prefect.yaml` describes, scheduled and run by a worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from projects import PARAMS, ProjectFolder, wait_until

pytestmark = pytest.mark.full

STAGES = ("base", "sweep", "soups", "tune", "diagnose", "evaluate", "report")


def ask(url: str, path: str, **content: Any) -> Any:
    """Send a query to Prefect's API."""
    request = urllib.request.Request(
        f"{url}/{path}", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def of(project: ProjectFolder) -> dict[str, Any]:
    """Return the filter for the flow runs of a project."""
    return {"tags": {"any_": [f"{socket.gethostname()}:{project.root}"]}}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, prefect_url: str) -> ProjectFolder:
    """Deploy what prefect.yaml of a fresh project describes."""
    project = ProjectFolder.make(tmp_path_factory.mktemp("deployed"), PARAMS)
    project.environment |= {
        "PREFECT_API_URL": prefect_url,
        "PREFECT_HOME": str(project.root / ".prefect"),
        "STOCKPOT_ROOT": str(project.root),
    }
    pool = project.finish("prefect", "work-pool", "create", "local", "--type", "process")
    deploy = project.finish("prefect", "--no-prompt", "deploy", "--all")
    assert (pool.code, deploy.code) == (0, 0), pool.output + deploy.output
    return project


@pytest.fixture(scope="module")
def worker(deployed: ProjectFolder) -> Iterator[None]:
    """Run a worker of the pool, as on the machine that does the work."""
    process = deployed.start(
        *("prefect", "worker", "start", "--pool", "local"), PREFECT_WORKER_QUERY_SECONDS="1"
    )
    yield
    os.killpg(process.pid, signal.SIGKILL)  # it has nothing to hand over
    process.communicate()


@pytest.mark.usefixtures("worker")
def test_a_deployed_experiment_runs_when_asked_for_and_makes_what_a_run_makes(
    deployed: ProjectFolder, prefect_url: str, finished_once: ProjectFolder
) -> None:
    run = deployed.finish("prefect", "deployment", "run", "experiment/by-hand", "--watch")

    assert run.code == 0, run.output
    assert deployed.digests() == finished_once.digests()
    assert [run.status for run in deployed.parent_runs()] == ["FINISHED"]
    assert deployed.dvc("status").output.strip() == "Data and pipelines are up to date."
    runs = ask(prefect_url, "flow_runs/filter", flow_runs=of(deployed))
    assert {run["state_name"] for run in runs} == {"Completed"}
    assert len(runs) == len(STAGES)
    found = ask(prefect_url, "task_runs/filter", flow_runs=of(deployed))
    tasks = {run["name"]: run for run in found}
    assert {run["state_name"] for run in tasks.values()} == {"Completed"}
    assert {f"train-{name}" for name in ("base", "ingredient-00", "ingredient-03")} <= {*tasks}
    assert {"soup-greedy", "tune-tuned", "predict-uniform", "write-report-manifest"} <= {*tasks}
    found = ask(prefect_url, "artifacts/filter", flow_runs=of(deployed))
    artifacts = {artifact["key"].partition("-")[0]: artifact for artifact in found}
    assert "greedy" in artifacts["results"]["data"]
    assert (
        f"`results/report.html` in the project folder `{deployed.root}`"
        in (artifacts["report"]["data"])
    )


def test_the_nightly_deployment_has_its_schedule(deployed: ProjectFolder, prefect_url: str) -> None:
    found = {each["name"]: each for each in ask(prefect_url, "deployments/filter")}

    assert sorted(found) == ["by-hand", "nightly"]
    (schedule,) = found["nightly"]["schedules"]
    assert schedule["active"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"
    assert found["by-hand"]["schedules"] == []
    assert [each["global_concurrency_limit"]["limit"] for each in found.values()] == [1, 1]
    assert found["nightly"]["pull_steps"][0].popitem()[1] == {"directory": str(deployed.root)}


@pytest.mark.slow
@pytest.mark.usefixtures("worker")
def test_a_deployed_run_that_is_cancelled_ends_its_workers_and_says_so(
    deployed: ProjectFolder,
) -> None:
    deployed.change_params(base={"epochs": 3000})
    before = len(deployed.processes())
    locks = deployed.root / ".stockpot" / "locks"
    num_locks = len(list(locks.iterdir()))
    run = deployed.finish("prefect", "deployment", "run", "experiment/by-hand")
    run_id = run.output.split("UUID: ")[1].split()[0]
    assert wait_until(lambda: len(list(locks.iterdir())) > num_locks, 60)

    cancel = deployed.finish("prefect", "flow-run", "cancel", run_id)

    assert cancel.code == 0, cancel.output
    assert wait_until(lambda: len(deployed.processes()) == before, 20)
    assert deployed.parent_runs()[0].status == "KILLED"
