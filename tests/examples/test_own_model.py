"""The example of a model of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from projects import REPOSITORY, ProjectFolder

EXAMPLE = REPOSITORY / "examples" / "own_model"


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    """Return a copy of the example, which holds all that it needs."""
    project = ProjectFolder.around(tmp_path)
    project.root.mkdir()
    for path in EXAMPLE.iterdir():
        if path.is_file():
            shutil.copy(path, project.root)
    return project


def test_the_example_runs_from_anywhere_and_keeps_its_state_beside_it(
    project: ProjectFolder, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    finished = project.stockpot(
        *("run", "-p", str(project.root / "params.yaml"), "--set", "diagnose=[]"),
        *("--set", "sweep.size=3", "--set", "sweep.min_ingredients=2", "--set", "tune=[]"),
        *("--set", "evaluate={bootstrap: 100, random_soups: 0, repeats: {m: 0}}"),
        at=elsewhere,
    )

    assert finished.code == 0, finished.output
    models = {model["name"]: model["metrics"] for model in project.manifest("evaluate")["models"]}
    assert models["uniform"]["test/accuracy"] > 0.9
    # What measures the coverage of a process leaves its own file where that was started.
    assert [path for path in elsewhere.iterdir() if not path.name.startswith(".coverage.")] == []
