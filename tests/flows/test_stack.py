"""`make stack`: PostgreSQL, Prefect, MLflow and a worker on this machine, used by a whole run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from projects import PARAMS, ProjectFolder

from flows.stack import postgres
from flows.stack.postgres import find_postgres, postgres_server, why_not
from flows.stack.servers import run_stack
from stockpot.errors import InputError
from stockpot.storage.project import Project

needs_postgres = pytest.mark.skipif(
    find_postgres() is None, reason="PostgreSQL is not installed (Debian: apt install postgresql)"
)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that PostgreSQL's own user can open, if the tests are root's."""
    with tempfile.TemporaryDirectory(prefix="stockpot-test-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
        return a.getsockname()[1], b.getsockname()[1]


def ask(address: str, content: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        address, json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def shown_until(process: subprocess.Popen[str], end: str) -> str:
    """Return what a process prints until a line with this end."""
    assert process.stdout is not None
    shown = ""
    while end not in shown:
        line = process.stdout.readline()
        assert line, shown
        shown += line
    return shown


def rows(socket_folder: str, database: str, table: str) -> int:
    """Count the rows of a table with psql."""
    programs = find_postgres()
    assert programs is not None
    query = ["-h", socket_folder, "-U", "stockpot", "-At", "-c", f"SELECT count(*) FROM {table}"]
    done = subprocess.run(
        [str(programs / "psql"), *query, database], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@needs_postgres
@pytest.mark.full
def test_a_run_on_the_stack_is_recorded_in_postgres_and_makes_what_a_run_makes(
    open_folder: Path, finished_once: ProjectFolder
) -> None:
    project = ProjectFolder.make(open_folder, PARAMS)
    prefect, mlflow = free_ports()
    stack = project.start(
        *("python", "-m", "flows.stack"),
        *("--prefect-port", str(prefect), "--mlflow-port", str(mlflow)),
    )
    folder = shown_until(stack, "Ctrl-C stops all.").split("?host=")[1].split()[0]

    servers = {
        "PREFECT_API_URL": f"http://127.0.0.1:{prefect}/api",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow}",
    }
    checks = project.stockpot("doctor", **servers)

    run = project.stockpot("run", **servers)

    assert checks.code == 0, checks.output
    assert "note" not in checks.output
    assert run.code == 0, run.output
    assert project.digests() == finished_once.digests()
    runs = ask(f"http://127.0.0.1:{prefect}/api/flow_runs/filter", {})
    assert {run["state_name"] for run in runs} == {"Completed"}
    search = {"experiment_ids": ["1"], "max_results": 1000}
    found = ask(f"http://127.0.0.1:{mlflow}/api/2.0/mlflow/runs/search", search)["runs"]
    assert {run["info"]["status"] for run in found} == {"FINISHED"}
    assert {*project.digests()} <= {run["info"]["run_name"] for run in found}
    assert rows(folder, "prefect", "flow_run") == len(runs)
    assert rows(folder, "mlflow", "runs") == len(found)
    log = (project.root / ".stockpot" / "logs" / "prefect-server.log").read_text()
    assert "ERROR" not in log
    stack.send_signal(signal.SIGINT)
    assert stack.communicate(timeout=60) is not None
    assert stack.returncode == 0
    assert project.no_processes_left(10)


def _killed_initdb(command: Sequence[str], _user: str | None = None) -> str:
    """Write what initdb writes first, and die."""
    (Path(command[command.index("-D") + 1]) / "PG_VERSION").touch()
    raise KeyboardInterrupt


@needs_postgres
def test_data_of_postgres_stay_and_nobody_else_can_open_its_socket(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(open_folder, open_folder / "params.yaml")
    with monkeypatch.context() as patch:
        patch.setattr(postgres, "_run", _killed_initdb)
        with pytest.raises(KeyboardInterrupt), postgres_server(project):
            pytest.fail("it started")

    with postgres_server(project) as first:
        mode = first.socket.stat().st_mode & 0o777
        programs = find_postgres()
        assert programs is not None
        psql = [str(programs / "psql"), "-h", str(first.socket), "-U", "stockpot", "-c"]
        subprocess.run([*psql, "CREATE TABLE kept (id int)", "mlflow"], check=True)

    with postgres_server(project) as again:
        kept = rows(str(again.socket), "mlflow", "kept")
        url = again.url("prefect", "asyncpg")

    assert mode == 0o700
    assert kept == 0
    assert url == f"postgresql+asyncpg://stockpot@/prefect?host={again.socket}"
    assert not again.socket.exists()


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    project = Project(tmp_path, tmp_path / "params.yaml")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with (
            pytest.raises(InputError, match=rf"port {port}, for MLflow: .*--mlflow-port"),
            run_stack(project, free_ports()[0], port),
        ):
            pytest.fail("it started")

    assert [*tmp_path.iterdir()] == []


def test_without_a_project_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.stack"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "params.yaml: none in" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root needs another user for PostgreSQL")
@needs_postgres
def test_a_folder_that_the_user_of_postgres_cannot_open_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)

    assert why_not(tmp_path) == f"the user 'postgres' cannot open {tmp_path}"
