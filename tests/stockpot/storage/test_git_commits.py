from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from stockpot.storage.dvc import describe_commit


def _git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    _git(tmp_path, "init", "--quiet")
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    _git(tmp_path, "add", "params.yaml")
    _git(tmp_path, "commit", "--quiet", "--message", "start")
    return tmp_path


def test_a_clean_project_is_its_commit(repository: Path) -> None:
    assert describe_commit(repository) == _git(repository, "rev-parse", "HEAD")


def test_a_changed_project_is_dirty(repository: Path) -> None:
    (repository / "params.yaml").write_text("seed: 1\n")

    assert describe_commit(repository) == f"{_git(repository, 'rev-parse', 'HEAD')}-dirty"


def test_a_folder_without_git_has_no_commit(tmp_path: Path) -> None:
    assert describe_commit(tmp_path) == ""


def test_a_repository_without_a_commit_has_none(tmp_path: Path) -> None:
    _git(tmp_path, "init", "--quiet")

    assert describe_commit(tmp_path) == ""


def test_a_machine_without_git_has_no_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(repository))

    assert describe_commit(repository) == ""
