"""Models that several projects share, in a folder and on S3: the same promises."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from s3_server import S3

from stockpot.errors import InputError
from stockpot.storage.checkpoints import Checkpoint, verify
from stockpot.storage.digests import file_digest
from stockpot.storage.models import Model
from stockpot.storage.remote.folder import FolderFiles
from stockpot.storage.remote.models import SharedRecord
from stockpot.storage.remote.opening import use_store
from stockpot.storage.store import Store

DETAILS: dict[str, Any] = {"hyperparameters": {"epochs": 3}}


@dataclass
class Shared:
    """A shared store, and projects that use it."""

    address: str
    change: Callable[[str, Callable[[bytes], bytes]], None]
    folder: Path

    def project(self, name: str) -> Store:
        root = self.folder / name
        use_store(root, self.address)
        return Store(root)

    def flip_a_bit(self, name: str) -> None:
        self.change(name, lambda content: bytes([content[0] ^ 1]) + content[1:])


@pytest.fixture
def in_folder(tmp_path: Path) -> Shared:
    """Return a store in a folder."""
    store = tmp_path / "store"

    def change_file(name: str, change: Callable[[bytes], bytes]) -> None:
        (store / name).write_bytes(change((store / name).read_bytes()))

    return Shared(str(store), change_file, tmp_path)


@pytest.fixture(params=["folder", "s3"])
def shared(request: pytest.FixtureRequest, in_folder: Shared, tmp_path: Path) -> Shared:
    """Return a store in a folder, and one on S3."""
    if request.param == "folder":
        return in_folder
    s3: S3 = request.getfixturevalue("s3")
    prefix: str = request.getfixturevalue("prefix")
    files = s3.files()

    def change_object(name: str, change: Callable[[bytes], bytes]) -> None:
        path = f"{prefix}/{name}"
        files.pipe_file(path, change(files.cat_file(path)))

    return Shared(f"s3://{prefix}", change_object, tmp_path)


def _save(store: Store, value: float = 1.0, kind: str = "ingredient") -> Model:
    return store.save(kind, "key", "ingredient-00", {"weight": torch.full((3, 4), value)}, DETAILS)


def _find(store: Store, kind: str = "ingredient") -> Model | None:
    return store.find(kind, "key", "ingredient-00")


def _files(store: Store) -> dict[str, bytes]:
    return {path.relative_to(store.root).as_posix(): path.read_bytes() for path in store.files()}


def _object(digest: str) -> str:
    return f"objects/{digest[:2]}/{digest}"


def test_what_one_project_has_made_another_finds_with_the_same_bytes(shared: Shared) -> None:
    made = _save(shared.project("a"))

    found = _find(shared.project("b"))

    assert found == made
    assert _files(shared.project("b")) == _files(shared.project("a"))


def test_a_folder_holds_records_and_objects_and_nothing_else(in_folder: Shared) -> None:
    made = _save(in_folder.project("a"))

    store = Path(in_folder.address)
    files = {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()}
    assert files == {
        "models/ingredients/key.json",
        _object(made.digest),
        "stockpot-store.json",
    }


def test_a_folder_without_hard_links_can_hold_a_store(
    in_folder: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    first = _save(in_folder.project("a"), 1.0)

    assert _save(in_folder.project("b"), 2.0) == first
    assert _find(in_folder.project("c")) == first


def test_an_adapter_comes_with_its_weights(shared: Shared) -> None:
    a, b = shared.project("a"), shared.project("b")
    folder = a.save_adapter("ingredient", "key", {"lora_A": torch.ones(2, 3)}, {"r": 2})
    details = DETAILS | {"adapter": folder}
    made = a.save("ingredient", "key", "ingredient-00", {"weight": torch.ones(3)}, details)

    assert _find(b) == made
    assert _files(b) == _files(a)
    assert len(_files(b)) == 4


def test_that_a_model_cannot_be_made_is_known_to_all(in_folder: Shared) -> None:
    in_folder.project("a").save_failure("ingredient", "key", "diverged at step 3")

    assert in_folder.project("b").failure("ingredient", "key") == "diverged at step 3"
    assert _find(in_folder.project("b")) is None


def test_a_job_finds_weights_by_their_digest_alone(shared: Shared) -> None:
    a, b = shared.project("a"), shared.project("b")
    made = _save(a, kind="base")

    file = verify(b.root, made.checkpoint)

    assert file == b.root / made.path
    assert _files(b) == _files(a)
    missing = Checkpoint("checkpoints/base/other.safetensors", "other", "0" * 64)
    with pytest.raises(InputError, match=f"objects/00/{'0' * 64} is missing"):
        verify(b.root, missing)


def test_models_from_before_the_store_are_uploaded_when_they_are_met(shared: Shared) -> None:
    local = Store(shared.folder / "a")
    made, soup = _save(local), _save(local, 2.0, kind="soup")
    assert _find(shared.project("b")) is None

    a = shared.project("a")
    assert _find(a) == made  # of a stage that runs
    a.share([made, soup])  # of a stage that is done

    assert _find(shared.project("b")) == made
    assert _find(shared.project("b"), "soup") == soup


def test_collected_models_are_fetched_again(in_folder: Shared) -> None:
    a = in_folder.project("a")
    made = _save(a)
    for path in a.files():
        path.unlink()

    assert _find(a) == made
    assert file_digest(a.root / made.path) == made.digest


@pytest.mark.parametrize("values", [(1.0, 1.0), (1.0, 2.0)], ids=["equal", "different"])
def test_of_two_writers_at_once_the_store_keeps_one_model(
    shared: Shared, values: tuple[float, float]
) -> None:
    stores = [shared.project("a"), shared.project("b")]
    together = Barrier(2)

    def save(store: Store, value: float) -> Model:
        together.wait()
        return _save(store, value)

    with ThreadPoolExecutor(2) as threads:
        made = [*threads.map(save, stores, values)]

    third = _find(shared.project("c"))
    assert third is not None
    assert [model.digest for model in made] == [third.digest] * 2
    assert _files(stores[0]) == _files(stores[1]) == _files(shared.project("c"))


def test_a_damaged_object_is_named_and_replaced_by_who_makes_the_model_again(
    shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    made = _save(shared.project("a"))
    shared.flip_a_bit(_object(made.digest))

    with caplog.at_level(logging.WARNING):
        assert _find(shared.project("b")) is None
    assert f"{shared.address}/{_object(made.digest)} is damaged" in caplog.text
    assert "ingredients/key is rebuilt" in caplog.text
    assert not _files(shared.project("b"))

    assert _save(shared.project("b")) == made
    assert _find(shared.project("c")) == made


def test_an_object_that_was_damaged_behind_its_checksum_is_replaced(
    in_folder: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderFiles, "holds", lambda *_: True)  # as an S3 server reports it
    made = _save(in_folder.project("a"))
    in_folder.flip_a_bit(_object(made.digest))

    assert _save(in_folder.project("b")) == made
    assert _find(in_folder.project("c")) == made


def test_a_damaged_object_gives_way_to_a_model_of_other_bits(in_folder: Shared) -> None:
    in_folder.flip_a_bit(_object(_save(in_folder.project("a"), 1.0).digest))

    remade = _save(in_folder.project("b"), 2.0)

    assert _find(in_folder.project("c")) == remade
    assert _find(in_folder.project("a")) == remade


def test_weights_that_a_job_names_are_refused_if_they_are_damaged(in_folder: Shared) -> None:
    made = _save(in_folder.project("a"))
    in_folder.flip_a_bit(_object(made.digest))

    with pytest.raises(InputError, match=rf"{_object(made.digest)} is damaged: its SHA-256 is"):
        verify(in_folder.project("b").root, made.checkpoint)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda _: b"{}",
        lambda content: content.replace(b'"epochs": 3', b'"epochs": 7'),
        lambda content: content.replace(b'"files"', b'"fils"'),
    ],
    ids=["cut", "empty", "another value", "another name"],
)
def test_a_damaged_record_is_named_and_written_again(
    in_folder: Shared, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    made = _save(in_folder.project("a"))
    in_folder.change("models/ingredients/key.json", damage)

    with caplog.at_level(logging.WARNING):
        assert _find(in_folder.project("b")) is None
    assert f"{in_folder.address}/models/ingredients/key.json is no record of a model" in caplog.text

    assert _save(in_folder.project("b")) == made
    assert _find(in_folder.project("c")) == made


def test_a_record_cannot_lead_out_of_the_checkpoints(in_folder: Shared) -> None:
    made = _save(in_folder.project("a"))
    record = json.loads((in_folder.folder / "a/checkpoints/ingredients/key.json").read_text())
    elsewhere = SharedRecord(record, {".safetensors": made.digest, "/../../x": made.digest})
    in_folder.change("models/ingredients/key.json", lambda _: elsewhere.to_bytes())

    assert _find(in_folder.project("b")) is None
    assert not (in_folder.folder / "b" / "checkpoints").exists()


def test_a_copy_of_a_project_uses_the_same_relative_store(tmp_path: Path) -> None:
    project, copy = tmp_path / "project", tmp_path / "project/.dvc/tmp/exps/copy"
    use_store(project, "../store")
    copy.mkdir(parents=True)
    (copy / ".stockpot").symlink_to(project / ".stockpot")
    made = _save(Store(project))

    use_store(copy, "../store")

    assert _find(Store(copy)) == made
    assert not (tmp_path / "project/.dvc/tmp/exps/store").exists()


def test_a_damaged_local_file_is_not_uploaded(in_folder: Shared) -> None:
    a = Store(in_folder.folder / "a")
    made = _save(a)
    file = a.root / made.path
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])

    with pytest.raises(InputError, match="changed or damaged: delete it and run again"):
        in_folder.project("a").share([made])

    assert _find(in_folder.project("b")) is None


def test_without_a_store_nothing_is_shared(in_folder: Shared) -> None:
    store = in_folder.project("a")
    use_store(store.root, None)

    _save(store)

    assert _find(in_folder.project("b")) is None
    assert json.loads((store.root / "checkpoints/ingredients/key.json").read_text())["bytes"] > 0
