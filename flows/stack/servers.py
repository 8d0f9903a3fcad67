"""Start PostgreSQL (if it is installed), Prefect, MLflow and a worker, and stop them together."""

from __future__ import annotations

import json
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from flows.server import answers, start_server
from flows.stack.postgres import Postgres, postgres_server, why_not
from stockpot.errors import InputError
from stockpot.storage.project import Project

POOL = "local"


@dataclass(frozen=True, slots=True)
class Stack:
    """Running servers.

    Attributes:
        prefect: address of Prefect's UI; its API is below `/api`.
        mlflow: address of the MLflow server.
        postgres: the database server behind both, and for studies; None: SQLite files.
        note: why there is no PostgreSQL; empty if there is.
    """

    prefect: str
    mlflow: str
    postgres: Postgres | None
    note: str


@contextmanager
def run_stack(project: Project, prefect_port: int, mlflow_port: int) -> Iterator[Stack]:
    """Run the servers on the loopback interface; all of them work when the block is entered.

    Raises:
        InputError: a port is in use.
        StageFailed: a server does not start.
    """
    for name, port in (("Prefect", prefect_port), ("MLflow", mlflow_port)):
        _check_free(name, port)
    folder = project.state / "stack"
    folder.mkdir(parents=True, exist_ok=True)
    note = why_not(folder)
    with ExitStack() as stack:
        postgres = None if note else stack.enter_context(postgres_server(project))
        prefect, mlflow = f"http://127.0.0.1:{prefect_port}", f"http://127.0.0.1:{mlflow_port}"
        servers = (
            _prefect_server(project, prefect_port, postgres),
            _mlflow_server(project, mlflow_port, postgres),
        )
        for wait in [stack.enter_context(server) for server in servers]:
            wait()
        worker = ["worker", "start", "--pool", POOL, "--type", "process"]
        api = {"PREFECT_API_URL": f"{prefect}/api", "MLFLOW_TRACKING_URI": mlflow}
        ready = partial(_has_worker, f"{prefect}/api/work_pools/{POOL}")
        wait_for_worker = stack.enter_context(
            start_server(project, "worker", [sys.executable, "-m", "prefect", *worker], ready, api)
        )
        wait_for_worker()
        yield Stack(prefect, mlflow, postgres, note or "")


@contextmanager
def _prefect_server(
    project: Project, port: int, postgres: Postgres | None
) -> Iterator[Callable[[], None]]:
    """Start Prefect with its UI; without PostgreSQL its database is a SQLite file of the stack."""
    from tasks.server_checks import LEASES_ON_DISK  # imports Prefect, which makes its home

    file = project.state / "stack" / "prefect.db"
    own = f"sqlite+aiosqlite:///{file}"
    settings = {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": (
            postgres.url("prefect", "asyncpg") if postgres else own
        ),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # On disk, so that a restarted server knows which runs hold a project.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES_ON_DISK,
    }
    command = [sys.executable, "-m", "prefect", "server", "start"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    is_up = partial(answers, f"http://127.0.0.1:{port}/api/health")
    with start_server(project, "prefect", command, is_up, settings) as wait:
        yield wait


@contextmanager
def _mlflow_server(
    project: Project, port: int, postgres: Postgres | None
) -> Iterator[Callable[[], None]]:
    """Start MLflow, through which clients also read and write artifacts."""
    folder = project.state / "stack"
    uri = postgres.url("mlflow", "psycopg2") if postgres else f"sqlite:///{folder / 'mlflow.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--backend-store-uri", uri]
    command += ["--artifacts-destination", (folder / "mlartifacts").as_uri()]
    is_up = partial(answers, f"http://127.0.0.1:{port}/health")
    with start_server(project, "mlflow", command, is_up) as wait:
        yield wait


def _has_worker(pool: str) -> bool:
    """Return whether a worker polls the work pool at this address."""
    try:
        with urllib.request.urlopen(pool, timeout=2) as answer:
            return bool(json.load(answer)["status"] == "READY")
    except (OSError, ValueError):
        return False


def _check_free(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(
                f"port {port}, for {name}: {error.strerror}; end the process that uses it, or "
                f"choose another one with --{name.lower()}-port"
            ) from error
