"""Paths in merge files: next to the file, or in the working directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockpot.disk_merging.merge_files.model_paths import model_and_adapter
from stockpot.errors import InputError
from stockpot.storage.local_paths import located


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the merge file; the working directory is the one above it."""
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "recipes"


def test_a_model_is_found_next_to_the_file_and_in_the_working_directory(folder: Path) -> None:
    (folder / "a").mkdir()
    Path("b").mkdir()

    assert located(folder, "a") == folder / "a"
    assert located(folder, "b").absolute() == folder.parent / "b"
    assert located(folder, "c") == folder / "c"  # the error is that of opening it
    assert located(folder, str(folder / "a")) == folder / "a"


def test_a_model_and_its_adapter_may_be_in_different_places(folder: Path) -> None:
    (folder / "a").mkdir()
    Path("adapter").mkdir()

    assert model_and_adapter(folder, "a+adapter") == (folder / "a", Path("adapter"))


def test_two_models_of_one_name_are_refused_and_both_named(folder: Path) -> None:
    (folder / "a").mkdir()
    Path("a").mkdir()

    with pytest.raises(InputError) as caught:
        located(folder, "a")

    assert str(folder / "a") in str(caught.value)
    assert str(folder.parent / "a") in str(caught.value)


def test_a_link_to_the_same_model_is_no_second_one(folder: Path) -> None:
    (folder / "a").mkdir()
    Path("a").symlink_to(folder / "a")

    assert located(folder, "a") == folder / "a"
