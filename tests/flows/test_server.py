"""One Prefect server at a time has the project's database."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch

import pytest

from flows.server import prefect_server, server_lock
from stockpot.storage.project import Project


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    """Return the address of something that answers as a server does."""
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _Healthy)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listener.server_address[1]}/api"
    listener.shutdown()
    listener.server_close()
    thread.join()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with patch.dict(os.environ):
        os.environ.pop("PREFECT_API_URL", None)
        yield Project(tmp_path, tmp_path / "params.yaml")


def test_a_run_waits_for_a_server_of_the_project_that_is_starting_and_uses_it(
    project: Project, address: str
) -> None:
    record = project.state / "prefect-server.url"

    with server_lock(project):
        starting = threading.Timer(0.3, record.write_text, [address])
        starting.start()
        with prefect_server(project) as wait:
            wait()
            used = os.environ["PREFECT_API_URL"]

    assert used == address
    assert "PREFECT_API_URL" not in os.environ
