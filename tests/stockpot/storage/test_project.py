from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from stockpot.errors import InputError
from stockpot.storage.project import Project, export_settings, find_project


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test change an environment of its own, which names no project."""
    own = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("STOCKPOT_", "DVC_", "PREFECT_", "MLFLOW_", "MPLCONFIGDIR"))
    }
    monkeypatch.setattr(os, "environ", own)


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "project" / "params.yaml"
    path.parent.mkdir()
    path.write_text("seed: 0\n")
    return path


@pytest.mark.parametrize("below", [".", "data", "data/deeper"])
def test_the_project_is_the_folder_above_with_params_yaml(
    params: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    folder = params.parent / below
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)

    assert find_project() == Project(params.parent, params)


def test_the_nearest_params_yaml_wins(params: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = params.parent / "inner" / "params.yaml"
    inner.parent.mkdir()
    inner.write_text("seed: 1\n")
    monkeypatch.chdir(inner.parent)

    assert find_project().root == inner.parent


def test_a_params_file_may_be_named(params: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = params.with_name("other.yaml")
    other.write_text("seed: 1\n")
    monkeypatch.chdir(params.parent.parent)

    assert find_project(Path("project/other.yaml")) == Project(params.parent, other)


@pytest.mark.parametrize("variable", ["STOCKPOT_ROOT", "DVC_ROOT"])
def test_the_environment_says_where_the_root_is(
    params: Path, tmp_path: Path, variable: str
) -> None:
    root = tmp_path / "elsewhere"
    root.mkdir()
    os.environ[variable] = str(root)

    assert find_project(params) == Project(root, params)


def test_our_own_variable_goes_before_that_of_dvc(params: Path, tmp_path: Path) -> None:
    os.environ.update(STOCKPOT_ROOT=str(tmp_path), DVC_ROOT="/no/such/folder")

    assert find_project(params).root == tmp_path


def test_a_queued_experiment_has_a_root_of_its_own_and_the_state_of_the_project(
    params: Path,
) -> None:
    copy = params.parent / ".dvc" / "tmp" / "exps" / "tmp123"
    copy.mkdir(parents=True)
    shutil.copy(params, copy)
    os.environ["DVC_ROOT"] = str(params.parent)

    project = find_project(copy / params.name)
    export_settings(project)
    export_settings(project)

    assert project.root == copy
    assert project.state.resolve() == params.parent / ".stockpot"
    assert project.prefect_home.resolve() == params.parent / ".prefect"
    assert project.mlflow_uri == f"sqlite:///{params.parent}/.stockpot/mlflow.db"


def test_a_folder_outside_any_project_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError) as caught:
        find_project()

    assert str(caught.value) == (
        f"params.yaml: none in {tmp_path} or above; change to a project folder or pass it with -p"
    )


def test_a_named_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^other\.yaml: no such file in "):
        find_project(tmp_path / "other.yaml")


def test_a_root_that_cannot_be_written_is_refused(params: Path) -> None:
    os.environ["STOCKPOT_ROOT"] = "/proc/1"

    with pytest.raises(InputError, match=r"/proc/1: the project folder must be writable"):
        find_project(params)


def test_all_state_is_below_the_root(tmp_path: Path) -> None:
    project = Project(tmp_path, tmp_path / "params.yaml")

    assert project.state == tmp_path / ".stockpot"
    assert project.results == tmp_path / "results"
    assert project.prefect_home == tmp_path / ".prefect"
    assert project.mlflow_uri == f"sqlite:///{tmp_path}/.stockpot/mlflow.db"


def test_settings_keep_all_tools_inside_the_project(params: Path) -> None:
    project = find_project(params)

    export_settings(project)

    homes = ("STOCKPOT_ROOT", "PREFECT_HOME", "MPLCONFIGDIR", "DVC_SITE_CACHE_DIR")
    assert all(Path(os.environ[name]).is_relative_to(project.root) for name in homes)
    assert not project.state.exists()  # a project that is only looked at stays as it is
    assert not project.prefect_home.exists()


def test_settings_of_the_user_stay(params: Path) -> None:
    os.environ.update(PREFECT_HOME="/home/of/mine", PREFECT_LOGGING_LEVEL="DEBUG")

    export_settings(find_project(params))

    assert os.environ["PREFECT_HOME"] == "/home/of/mine"
    assert os.environ["PREFECT_LOGGING_LEVEL"] == "DEBUG"


def test_telemetry_is_off_whatever_the_user_has_set(params: Path) -> None:
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="false", DVC_NO_ANALYTICS="", DO_NOT_TRACK="0")

    export_settings(find_project(params))

    switches = {
        "DO_NOT_TRACK": "true",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    assert {name: os.environ[name] for name in switches} == switches
