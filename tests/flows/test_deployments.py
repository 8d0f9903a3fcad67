"""Deployments on a real Prefect server: they fire, wait, fail, die and start again."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from code_blocks import blocks
from prefect_server import PrefectServer
from projects import PARAMS, ProjectFolder, wait_until
from webhook import Webhook

from stockpot.storage.locks import run_lock

pytestmark = pytest.mark.full

STAGES = ("base", "sweep", "soups", "tune", "diagnose", "evaluate", "report")
EVERY_MINUTE = '"* * * * *"'
WAIT = 240  # seconds; the machine may be busy


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    server = PrefectServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    """Make the project that the worker's environment names; no run may touch it."""
    return ProjectFolder.make(tmp_path_factory.mktemp("elsewhere"), PARAMS)


class Workers:
    """One worker at a time, on the pool of all projects of these tests."""

    def __init__(self, server: PrefectServer, place: ProjectFolder) -> None:
        self._server, self._place = server, place
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = self._place.start(
            *("stockpot", "worker"),
            PREFECT_API_URL=self._server.url,
            PREFECT_HOME=str(self._place.home.parent / "worker"),
            PREFECT_WORKER_QUERY_SECONDS="1",
            STOCKPOT_ROOT=str(self._place.root),
        )

    def kill(self) -> None:
        """Kill the worker and all runs that it has started."""
        for pid in self._place.processes():
            os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.communicate()
            self._process = None


@pytest.fixture(scope="module")
def workers(server: PrefectServer, elsewhere: ProjectFolder) -> Iterator[Workers]:
    workers = Workers(server, elsewhere)
    workers.start()
    yield workers
    workers.kill()


def deploy(project: ProjectFolder, server: PrefectServer, prefix: str, *options: str) -> None:
    """Deploy what prefect.yaml describes, with a prefix to the names."""
    project.environment["PREFECT_API_URL"] = server.url
    file = project.root / "prefect.yaml"
    file.write_text(re.sub(rf"- name: (?!{prefix})", f"- name: {prefix}-", file.read_text()))
    done = project.stockpot("deploy", *options)
    assert done.code == 0, done.output


def trigger(project: ProjectFolder, name: str, **settings: Any) -> str:
    """Start a deployment; return the id of the flow run."""
    parameter = f"settings={json.dumps(settings)}"
    done = project.finish("prefect", "deployment", "run", name, "--param", parameter)
    assert done.code == 0, done.output
    return done.output.split("UUID: ")[1].split()[0]


def has_state(server: PrefectServer, run_id: str, *names: str, seconds: float = WAIT) -> bool:
    return wait_until(lambda: server.run(run_id)["state_name"] in names, seconds)


def tag_of(project: ProjectFolder) -> str:
    return f"{socket.gethostname()}:{project.root}"


def check_what_prefect_shows(server: PrefectServer, project: ProjectFolder, run_id: str) -> None:
    """Check the subflows, tasks and artifacts of a completed run."""
    stages = server.runs(tags={"all_": [tag_of(project)]}, parent_flow_run_id={"any_": [run_id]})
    assert {each["state_name"] for each in stages} == {"Completed"}
    assert len(stages) == len(STAGES)
    found = server.ask("task_runs/filter", flow_runs={"tags": {"all_": [tag_of(project)]}})
    tasks = {each["name"]: each["state_name"] for each in found}
    assert {*tasks.values()} == {"Completed"}
    assert {"train-ingredient-03", "soup-greedy", "tune-tuned", "write-report-manifest"} <= {*tasks}
    found = server.ask("artifacts/filter", flow_runs={"tags": {"all_": [tag_of(project)]}})
    artifacts = {artifact["key"].partition("-")[0]: artifact["data"] for artifact in found}
    assert "greedy" in artifacts["results"]
    assert f"`results/report.html` in the project folder `{project.root}`" in artifacts["report"]


@pytest.mark.usefixtures("workers")
def test_the_commands_of_the_readme_deploy_a_run_that_fires_by_itself(
    server: PrefectServer, finished_once: ProjectFolder, tmp_path: Path
) -> None:
    (block,) = (each for each in blocks() if each.page == "README.md" and "test_depl" in each.how)
    commands = [line.partition("#")[0].strip() for line in block.text.splitlines()]
    assert commands == [
        "prefect server start",
        "export PREFECT_API_URL=http://127.0.0.1:4200/api",
        "stockpot deploy",
        "stockpot worker",
    ]
    project = ProjectFolder.make(tmp_path, PARAMS)
    file = project.root / "prefect.yaml"
    file.write_text(file.read_text().replace('"0 2 * * *"', EVERY_MINUTE, 1))
    deploy(project, server, "cron")
    (deployment,) = server.ask(
        "deployments/filter", deployments={"name": {"any_": ["cron-nightly"]}}
    )
    of_it = {"deployment_id": {"any_": [deployment["id"]]}}

    assert wait_until(lambda: any(r["state_name"] == "Scheduled" for r in server.runs(**of_it)), 60)
    done = {**of_it, "state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
    assert wait_until(lambda: bool(server.runs(**done)), WAIT)
    paused = project.finish("prefect", "deployment", "schedule", "pause", "--all")

    (run, *_) = server.runs(**done)[-1:]
    assert paused.code == 0
    assert run["auto_scheduled"]
    assert run["state_name"] == "Completed", server.log(run["id"])
    assert run["name"] == "digits-seed-0"
    assert {"stockpot", tag_of(project)} <= {*run["tags"]}
    assert project.digests() == finished_once.digests()
    assert project.dvc("status").output.strip() == "Data and pipelines are up to date."
    assert [run.status for run in project.parent_runs()] == ["FINISHED"]
    check_what_prefect_shows(server, project, run["id"])
    assert server.errors() == []


def start_to_train(server: PrefectServer, project: ProjectFolder, prefix: str) -> str:
    """Deploy and trigger an experiment; return the id of its run, which has made 2 of 6."""
    project.change_params(sweep={"size": 6})
    deploy(project, server, prefix)
    run_id = trigger(project, f"experiment/{prefix}-by-hand")
    assert wait_until(lambda: len(ingredients(project)) >= 2, WAIT), server.log(run_id)
    return run_id


def ingredients(project: ProjectFolder) -> dict[Path, int]:
    """Return when each finished ingredient was written."""
    made = project.root / "checkpoints" / "ingredients"
    return {path: path.stat().st_mtime_ns for path in made.glob("*.json")}


def test_a_run_whose_worker_and_server_were_killed_is_crashed_and_the_next_one_completes(
    server: PrefectServer, workers: Workers, tmp_path: Path
) -> None:
    project = ProjectFolder.make(tmp_path, PARAMS)
    run_id = start_to_train(server, project, "killed")

    workers.kill()
    server.kill()
    killed, finished = time.monotonic(), ingredients(project)
    server.start()

    assert has_state(server, run_id, "Crashed")
    assert time.monotonic() - killed < 120
    workers.start()
    following = trigger(project, "experiment/killed-by-hand")
    assert has_state(server, following, "Completed"), server.log(following)
    assert finished.items() <= ingredients(project).items()
    assert len(project.manifest("sweep")["ingredients"]) == 6
    unfinished = {"type": {"any_": ["RUNNING", "PENDING"]}}
    assert server.runs(tags={"all_": [tag_of(project)]}, state=unfinished) == []


@pytest.mark.slow
def test_a_run_whose_process_was_killed_is_started_again_and_completes(
    server: PrefectServer, workers: Workers, tmp_path: Path
) -> None:
    project = ProjectFolder.make(tmp_path, PARAMS)
    run_id = start_to_train(server, project, "again")

    workers.kill()
    finished = ingredients(project)
    workers.start()

    assert has_state(server, run_id, "Completed"), server.log(run_id)
    assert {"Crashed", "AwaitingRetry"} <= {*server.states(run_id)}
    assert finished.items() <= ingredients(project).items()


@pytest.mark.usefixtures("workers")
def test_a_busy_project_is_waited_for_and_another_one_on_the_same_worker_is_not(
    server: PrefectServer, elsewhere: ProjectFolder, tmp_path: Path
) -> None:
    busy, other = (ProjectFolder.make(tmp_path / name, PARAMS) for name in ("busy", "other"))
    deploy(busy, server, "busy")
    deploy(other, server, "other")

    with run_lock(busy.root / ".stockpot" / "run.lock", "dvc repro", lambda _: None):
        waiting = trigger(busy, "collect-garbage/busy-garbage")
        assert has_state(server, waiting, "Waiting"), server.log(waiting)
        queued = trigger(busy, "collect-garbage/busy-garbage", dry_run=True)
        dropped = trigger(busy, "experiment/busy-nightly")
        free = trigger(other, "collect-garbage/other-garbage")
        assert has_state(server, queued, "AwaitingConcurrencySlot")
        assert has_state(server, dropped, "Cancelled")
        assert has_state(server, free, "Completed"), server.log(free)
        reason = server.run(waiting)["state"]["message"]
        details = server.run(waiting)["state"]["state_details"]
        assert server.run(waiting)["state_name"] == "Waiting"

    assert "Another run has this project: process" in reason
    assert "dvc repro" in reason
    assert details["deployment_concurrency_lease_id"] is not None  # it keeps its slot
    assert reason in server.log(waiting)
    for run_id in (waiting, queued):
        assert has_state(server, run_id, "Completed"), server.log(run_id)
    assert server.states(waiting)[-3:] == ["Waiting", "Running", "Completed"]
    assert server.run(waiting)["name"] == "garbage-digits-seed-0"
    assert tag_of(other) in server.run(free)["tags"]
    assert not (elsewhere.root / ".stockpot").exists()


@pytest.mark.usefixtures("workers")
def test_the_champion_is_scored_on_todays_data_and_a_low_score_is_reported(
    server: PrefectServer, finished_once: ProjectFolder, tmp_path: Path
) -> None:
    project, webhook = finished_once.copy(tmp_path / "copy"), Webhook()
    deploy(project, server, "judged", "--notify", webhook.address)
    missing = trigger(project, "evaluate-champion/judged-champion")
    assert has_state(server, missing, "Failed")
    assert wait_until(lambda: "'test' has none in MLflow's registry" in webhook.text, WAIT)
    promoted = project.stockpot("promote", "greedy")
    assert promoted.code == 0, promoted.output

    found = trigger(project, "evaluate-champion/judged-champion")
    low = trigger(project, "evaluate-champion/judged-champion", at_least=1.01)

    assert has_state(server, found, "Completed"), server.log(found)
    assert has_state(server, low, "Failed")
    assert wait_until(lambda: "must be at least 1.01" in webhook.text, WAIT)
    webhook.close()
    assert "champion-digits-seed-0 is Failed" in webhook.text
    models = {each["name"]: each for each in project.manifest("evaluate")["models"]}
    result = json.loads((project.root / "results" / "champion.json").read_text())
    assert result["champion"] == "'greedy' (version 1)"
    of_greedy = models["greedy"]["metrics"]
    tests = {name for name in result["metrics"] if name.startswith(("test/", "shift/"))}
    assert {"test/accuracy", "test/accuracy_low", "shift/mean/accuracy"} <= tests
    shared = {name: of_greedy[name] for name in tests & {*of_greedy}}
    assert {name: result["metrics"][name] for name in shared} == pytest.approx(shared, rel=1e-12)


def test_a_name_that_another_project_has_deployed_is_refused(
    server: PrefectServer, tmp_path: Path
) -> None:
    one, other = (ProjectFolder.make(tmp_path / name, PARAMS) for name in ("one", "other"))
    deploy(one, server, "same")
    other.environment["PREFECT_API_URL"] = server.url
    (other.root / "prefect.yaml").write_text((one.root / "prefect.yaml").read_text())

    refused = other.stockpot("deploy")
    without = other.stockpot("deploy", PREFECT_API_URL="http://127.0.0.1:9/api")

    assert refused.code == without.code == 2
    assert "deployment 'same-" in refused.output
    assert str(one.root) in "".join(refused.output.split("│")).replace("\n", "").replace(" ", "")
    assert "no Prefect server answers" in without.output


@pytest.mark.slow
@pytest.mark.usefixtures("workers")
def test_a_deployed_run_that_is_cancelled_ends_its_workers_and_says_so(
    server: PrefectServer, elsewhere: ProjectFolder, tmp_path: Path
) -> None:
    project = ProjectFolder.make(tmp_path, PARAMS | {"base": {"epochs": 3000}})
    deploy(project, server, "cancelled")
    before = len(elsewhere.processes())
    run_id = trigger(project, "experiment/cancelled-by-hand")
    locks = project.root / ".stockpot" / "locks"
    assert wait_until(lambda: locks.is_dir() and any(locks.iterdir()), WAIT)

    cancel = project.finish("prefect", "flow-run", "cancel", run_id)

    assert cancel.code == 0, cancel.output
    assert wait_until(lambda: len(elsewhere.processes()) == before, 60)
    assert project.parent_runs()[0].status == "KILLED"
