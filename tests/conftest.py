"""Projects that several tests start from."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import urllib.request

# Test processes share the cores: torch, when it is imported, uses one thread in each of them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from filelock import FileLock
from projects import PARAMS, ProjectFolder, wait_until

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("stockpot", deadline=None)
hypothesis.settings.load_profile("stockpot")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import all tests without looking for garbage: there is none, and it takes seconds.

    What is there afterwards stays, and the collector need not visit it again.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with whole experiments, which take longest; examples are for `make test-all`."""
    for item in items:
        if "examples" in item.path.parts:
            item.add_marker(pytest.mark.full)
    items.sort(key=lambda item: not _RUNS_EXPERIMENTS & {*getattr(item, "fixturenames", [])})


_RUNS_EXPERIMENTS = {"make_project", "finished_once", "prefect_url"}


@pytest.fixture
def make_project(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., ProjectFolder]:
    """Return what makes a fresh project in a folder of this test.

    Its commands use the server that runs already, if they are not to start one each.
    """

    def make(name: str = "fresh", *, own_server: bool = False, **sections: Any) -> ProjectFolder:
        project = ProjectFolder.make(tmp_path / name, PARAMS | sections)
        if not own_server:
            project.environment["PREFECT_API_URL"] = request.getfixturevalue("prefect_url")
        return project

    return make


@pytest.fixture(scope="session")
def make_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Callable[[Path], None]], Path]:
    """Return what fills a folder of a name, for reading only.

    The processes of pytest-xdist share it: the first to come fills it, the others wait.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder, is_filled = shared / name, shared / f"{name}.filled"
        with FileLock(f"{folder}.lock"):
            if not is_filled.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                is_filled.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def finished_once(make_once: Callable[[str, Callable[[Path], None]], Path]) -> ProjectFolder:
    """Return a project that `stockpot run` has finished in; for reading only."""

    def run(folder: Path) -> None:
        finished = ProjectFolder.make(folder, PARAMS).stockpot("run")
        assert finished.code == 0, finished.output

    return ProjectFolder.around(make_once("finished", run))


@pytest.fixture
def finished_project(finished_once: ProjectFolder, tmp_path: Path) -> ProjectFolder:
    """Return a copy of a finished project, to be changed."""
    return finished_once.copy(tmp_path / "copy")


@pytest.fixture
def served_project(finished_project: ProjectFolder, prefect_url: str) -> ProjectFolder:
    """Return such a copy whose commands use the server that runs already."""
    finished_project.environment["PREFECT_API_URL"] = prefect_url
    return finished_project


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
