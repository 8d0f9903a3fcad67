"""A Prefect server of the tests' own, as a team would run one."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from collections.abc import Iterator

import pytest
from projects import ProjectFolder, wait_until


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
