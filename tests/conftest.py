"""Projects that several tests start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from projects import PARAMS, ProjectFolder

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("stockpot", deadline=None)
hypothesis.settings.load_profile("stockpot")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one process run whole experiments, one after the other, and another all else.

    Whole experiments use all cores for a while; files stay together for their fixtures' sake.
    """
    for item in items:
        fixtures: list[str] = getattr(item, "fixturenames", [])
        runs_experiments = {"make_project", "finished_once"} & {*fixtures}
        group = "whole experiments" if runs_experiments else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., ProjectFolder]:
    """Return what makes a fresh project in a folder of this test."""

    def make(name: str = "fresh", **sections: Any) -> ProjectFolder:
        return ProjectFolder.make(tmp_path / name, PARAMS | sections)

    return make


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    """Return a project that `stockpot run` has finished in; for reading only."""
    project = ProjectFolder.make(tmp_path_factory.mktemp("finished"), PARAMS)
    finished = project.stockpot("run")
    assert finished.code == 0, finished.output
    return project


@pytest.fixture
def finished_project(finished_once: ProjectFolder, tmp_path: Path) -> ProjectFolder:
    """Return a copy of a finished project, to be changed."""
    return finished_once.copy(tmp_path / "copy")
