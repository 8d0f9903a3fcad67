"""Projects that several tests start from."""

from __future__ import annotations

import os

# Test processes share the cores: torch, when it is imported, uses one thread in each of them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from filelock import FileLock
from projects import PARAMS, ProjectFolder

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("stockpot", deadline=None)
hypothesis.settings.load_profile("stockpot")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with whole experiments, which take longest; examples are for `make test-all`."""
    for item in items:
        if "examples" in item.path.parts:
            item.add_marker(pytest.mark.full)
    items.sort(key=lambda item: not _RUNS_EXPERIMENTS & {*getattr(item, "fixturenames", [])})


_RUNS_EXPERIMENTS = {"make_project", "finished_once", "prefect_url"}


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., ProjectFolder]:
    """Return what makes a fresh project in a folder of this test."""

    def make(name: str = "fresh", **sections: Any) -> ProjectFolder:
        return ProjectFolder.make(tmp_path / name, PARAMS | sections)

    return make


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    """Return a project that `stockpot run` has finished in; for reading only.

    The processes of pytest-xdist share one: the first to come makes it, the others wait.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "finished"
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            return ProjectFolder.around(folder)
        folder.mkdir()
        project = ProjectFolder.make(folder, PARAMS)
        finished = project.stockpot("run")
        assert finished.code == 0, finished.output
    return project


@pytest.fixture
def finished_project(finished_once: ProjectFolder, tmp_path: Path) -> ProjectFolder:
    """Return a copy of a finished project, to be changed."""
    return finished_once.copy(tmp_path / "copy")
