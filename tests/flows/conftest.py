"""A Prefect server as a team would run one, and the command in the process of the tests."""

from __future__ import annotations

import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from projects import ProjectFolder, wait_until
from typer.testing import CliRunner

from stockpot.errors import InputError, StageFailed

Stockpot: TypeAlias = Callable[..., tuple[int, str]]


@pytest.fixture
def stockpot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stockpot]:
    """Return what runs the command in this test's folder: exit code and output as one line.

    It runs in this process, which saves the seconds in which a process imports torch.
    """
    from flows.cli import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, arguments)
        if isinstance(result.exception, InputError):
            return 2, str(result.exception)
        if isinstance(result.exception, StageFailed):
            return 1, str(result.exception)
        return result.exit_code, " ".join(result.output.split())

    yield run
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server with its own database on its own port; return the address of its API."""
    place = ProjectFolder.around(tmp_path_factory.mktemp("prefect"))
    place.root.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = place.start(
        *("prefect", "server", "start", "--no-ui", "--host", "127.0.0.1", "--port", str(port)),
        PREFECT_HOME=str(place.root),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE="100",
        PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE="100",
        PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL="1",
    )
    url = f"http://127.0.0.1:{port}/api"
    assert wait_until(lambda: answers(f"{url}/health"), 120), server.poll()

    yield url

    os.killpg(server.pid, signal.SIGKILL)
    server.communicate()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
