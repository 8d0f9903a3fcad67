"""The example of a recommender, quickly trained: rows that few have trained count for these."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from projects import REPOSITORY, ProjectFolder
from safetensors.torch import load_file

EXAMPLE = REPOSITORY / "examples" / "recommender"


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    """Return a copy of the example, which needs nothing else."""
    project = ProjectFolder.around(tmp_path)
    project.root.mkdir()
    for path in EXAMPLE.iterdir():
        if path.is_file():
            shutil.copy(path, project.root)
    return project


def test_counted_rows_are_those_of_the_regions_own_models(
    project: ProjectFolder, prefect_url: str
) -> None:
    project.environment["PREFECT_API_URL"] = prefect_url
    finished = project.stockpot(
        *("run", "--set", "base.epochs=4", "--set", "sweep.space.epochs=4"),
        *("--set", "evaluate={bootstrap: 100, random_soups: 0, repeats: {m: 0}}"),
    )

    assert finished.code == 0, finished.output
    judged = project.manifest("evaluate")["models"]
    scores = {model["name"]: model["metrics"]["test/minus_squared_error"] for model in judged}
    assert scores["counted"] > max(scores["uniform"], scores["base"])
    sweep, soups = project.manifest("sweep")["ingredients"], project.manifest("soups")["soups"]
    assert all(0.4 < model["density"] <= 0.5 for model in sweep)
    paths = {model["name"]: project.root / model["path"] for model in (*sweep, *soups)}
    rows = {name: load_file(path)["users.weight"][300:400] for name, path in paths.items()}
    own = [rows[model["name"]] for model in sweep if model["hyperparameters"].get("shard", 1) == 1]
    live = torch.stack([one != 0 for one in own])
    wanted = torch.stack(own).sum(dim=0) / live.sum(dim=0).clamp(min=1)
    torch.testing.assert_close(rows["counted"], wanted)
    assert (project.root / "results" / "diagnostics" / "mask_overlap.json").is_file()
