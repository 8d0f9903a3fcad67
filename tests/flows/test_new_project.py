"""`stockpot new`: what it writes is a project, and nothing is overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from projects import REPOSITORY, ProjectFolder

from flows.new_project import write_project
from stockpot.config import load_experiment
from stockpot.errors import InputError
from stockpot.experiment.stages import UPSTREAM


def test_a_new_project_is_described_by_files_that_are_valid(tmp_path: Path) -> None:
    folder = tmp_path / "spirals"

    written = write_project(folder)

    assert sorted(written) == sorted(path for path in folder.rglob("*") if path.is_file())
    assert (folder / "README.md").read_text().startswith("# spirals\n")
    assert load_experiment(folder / "params.yaml").track.experiment == "spirals"
    deployments = yaml.safe_load((folder / "prefect.yaml").read_text())["deployments"]
    assert deployments[0]["name"] == "spirals-nightly"
    assert not any("PROJECT_NAME" in path.read_text() for path in written)


def test_the_pipeline_is_that_of_the_repository_but_for_the_code(tmp_path: Path) -> None:
    write_project(tmp_path / "spirals")
    own = yaml.safe_load((tmp_path / "spirals" / "dvc.yaml").read_text())["stages"]
    repository = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]

    code, of_repository = own.pop("code"), repository.pop("code")
    assert code.pop("always_changed")  # DVC cannot know which modules the workload imports
    assert of_repository.pop("deps") == ["stockpot"]
    assert code == of_repository
    assert own == repository
    assert list(own) == list(UPSTREAM)


def test_prefect_has_the_settings_of_the_repository_with_telemetry_off(tmp_path: Path) -> None:
    write_project(tmp_path / "spirals")

    settings = tomllib.loads((tmp_path / "spirals" / "prefect.toml").read_text())

    repository = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["prefect"]
    assert settings == repository
    assert settings["server"]["analytics_enabled"] is False


def test_a_name_that_yaml_takes_for_a_number_stays_a_name(tmp_path: Path) -> None:
    write_project(tmp_path / "2024")

    assert load_experiment(tmp_path / "2024" / "params.yaml").track.experiment == "2024"


def test_a_folder_with_other_files_becomes_a_project(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("mine")

    write_project(tmp_path)

    assert (tmp_path / "model.py").read_text() == "mine"
    assert (tmp_path / "workload.py").is_file()


@pytest.mark.parametrize("place", ["params.yaml", "tests/test_workload.py", ".gitignore"])
def test_nothing_is_overwritten_and_nothing_written_beside(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("mine")

    with pytest.raises(InputError, match=f"must not have files of a project yet, got .*{place}"):
        write_project(tmp_path)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / place]
    assert (tmp_path / place).read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "spirals").write_text("mine")

    with pytest.raises(InputError, match="spirals: must be a folder, got a file"):
        write_project(tmp_path / "spirals")


@pytest.mark.parametrize("name", ["my project", "käse!", "a'b", '"', "-rf"])
def test_a_name_that_files_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="names must have letters"):
        write_project(tmp_path / name)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
def test_a_new_project_passes_its_own_test(tmp_path: Path) -> None:
    write_project(tmp_path / "spirals")
    hidden = ("STOCKPOT_", "PYTEST_", "COV_", "COVERAGE_")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "spirals",
        env={name: value for name, value in os.environ.items() if not name.startswith(hidden)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_new_project_runs(tmp_path: Path) -> None:
    project = ProjectFolder.around(tmp_path)
    write_project(project.root)

    finished = project.stockpot("run")

    assert finished.code == 0, finished.output
    assert (project.root / "results" / "report.html").is_file()
