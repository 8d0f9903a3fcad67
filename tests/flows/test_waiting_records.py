"""Tracking records that wait: `status` counts them, and every command that ends well sends them."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from mlflow.tracking.client import MlflowClient
from mlflow_server import Server
from projects import PARAMS, ProjectFolder, wait_until

from stockpot.tracking.outbox import Outbox
from stockpot.tracking.records import Record
from stockpot.tracking.store import PIPELINE, MlflowStore

Stockpot: TypeAlias = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store without runs, to copy: creating its tables takes a second."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def dead_uri() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def leave_records(state: Path, uri: str, experiment: str = "test") -> None:
    """Leave the two records of a run in the outbox, as if the server had been away."""
    outbox = Outbox(MlflowStore(uri, experiment, state), state / "outbox")
    start = {"name": "run", "tags": {PIPELINE: "p"}, "params": {}, "datasets": []}
    outbox.put(Record("start", "p", start))
    outbox.put(Record("finish", "p", {"status": "FINISHED"}))


def own_uri(project: Path) -> str:
    return f"sqlite:///{project / '.stockpot' / 'mlflow.db'}"


def test_status_counts_what_waits_here_what_waits_elsewhere_and_what_was_refused(
    stockpot: Stockpot, params_file: Path
) -> None:
    state = params_file.parent / ".stockpot"
    leave_records(state, own_uri(params_file.parent))
    leave_records(state, own_uri(params_file.parent), "another")
    (state / "outbox" / "refused").mkdir()
    (state / "outbox" / "refused" / "000001-aa-bb.json").touch()

    code, output = stockpot("status")

    assert code == 0
    assert f"2 tracking records wait for {own_uri(params_file.parent)}" in output
    assert "2 tracking records wait for another store or experiment" in output
    assert "1 tracking records were refused" in output


@pytest.mark.parametrize("command", [("send",), ("code",), ("gc", "--yes")])
def test_a_command_that_ends_well_sends_what_waits_once(
    stockpot: Stockpot, params_file: Path, empty_database: Path, command: tuple[str, ...]
) -> None:
    (params_file.parent / ".stockpot").mkdir()
    shutil.copy(empty_database, params_file.parent / ".stockpot" / "mlflow.db")
    leave_records(params_file.parent / ".stockpot", own_uri(params_file.parent))

    code, first = stockpot(*command)
    _, again = stockpot(*command)

    assert code == 0, first
    assert "Sent 2 tracking records that were waiting." in first
    assert "Sent" not in again
    client = MlflowClient(tracking_uri=own_uri(params_file.parent))
    experiment = client.get_experiment_by_name("test")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"]


def test_send_fails_and_keeps_the_records_while_the_server_is_away_but_other_commands_end_well(
    stockpot: Stockpot, params_file: Path, dead_uri: str
) -> None:
    leave_records(params_file.parent / ".stockpot", dead_uri)

    code, message = stockpot("send", "--set", f"track.uri={dead_uri}")
    other, _ = stockpot("code", "--set", f"track.uri={dead_uri}")

    assert code == 1
    assert message.startswith("2 tracking records wait; start the MLflow server")
    assert other == 0
    assert len([*(params_file.parent / ".stockpot" / "outbox").glob("0*.json")]) == 2


@pytest.mark.full
def test_records_of_a_server_that_was_killed_mid_sweep_are_all_there_once_and_none_twice(
    tmp_path: Path, prefect_url: str, empty_database: Path
) -> None:
    server = Server(tmp_path / "server", empty_database)
    server.start()
    project = ProjectFolder.make(
        tmp_path / "here", PARAMS | {"track": {"experiment": "test", "uri": server.uri}}
    )
    project.environment["PREFECT_API_URL"] = prefect_url
    made = project.root / "checkpoints" / "ingredients"
    run = project.start("stockpot", "run")
    assert wait_until(lambda: len([*made.glob("*.safetensors")]) >= 1, 120)
    server.kill()
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 0, output
    assert "`stockpot send` sends them" in output
    waiting = project.stockpot("status").output

    server.start()
    again = project.stockpot("run")
    server_uri = server.uri

    assert f"tracking records wait for {server_uri}" in waiting
    assert again.code == 0, again.output
    assert "Nothing to do" in again.output
    assert "Sent" in again.output
    assert [*(project.root / ".stockpot" / "outbox").rglob("*.json")] == []
    names = [run["info"]["run_name"] for run in runs_on(server_uri)]
    expected = [*project.digests(), "digits seed 0"]
    assert sorted(name for name in names if name in expected) == sorted(expected)
    assert len(names) == len({*names}), sorted(names)
    assert {run["info"]["status"] for run in runs_on(server_uri)} == {"FINISHED"}
    server.kill()


def runs_on(uri: str) -> list[dict[str, Any]]:
    """List the runs of the experiment `test` on a server."""
    content = json.dumps({"experiment_ids": ["1"], "max_results": 1000}).encode()
    request = urllib.request.Request(
        f"{uri}/api/2.0/mlflow/runs/search", content, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)["runs"]
    return found
