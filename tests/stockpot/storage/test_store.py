from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from stockpot.storage import store as store_module
from stockpot.storage.checkpoints import load_tensors, read_metadata
from stockpot.storage.digests import file_digest
from stockpot.storage.models import Model
from stockpot.storage.store import FOLDERS, Store

TENSORS = {"weight": torch.ones(3, 4), "count": torch.tensor(2)}
DETAILS: dict[str, Any] = {"hyperparameters": {"epochs": 3}, "trials": [1, 2], "front": []}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def _save(store: Store, kind: str = "ingredient") -> Model:
    return store.save(kind, "key", "ingredient-00", TENSORS, DETAILS)


@pytest.mark.parametrize(("kind", "folder"), FOLDERS.items())
def test_a_model_is_found_where_its_kind_is_kept(store: Store, kind: str, folder: str) -> None:
    saved = _save(store, kind)

    found = store.find(kind, "key", "ingredient-00")

    assert found == saved
    assert saved.path == f"checkpoints/{folder}/key.safetensors"
    assert torch.equal(load_tensors(store.root / saved.path)["weight"], TENSORS["weight"])


def test_a_model_knows_its_size_digest_and_origin(store: Store) -> None:
    saved = _save(store)

    path = store.root / saved.path
    assert saved.digest == file_digest(path)
    assert saved.bytes == path.stat().st_size
    assert saved.num_params == 13
    assert saved.details == DETAILS | {"density": 1.0}
    assert saved.scores == {}


def test_a_model_may_have_another_name_in_another_sweep(store: Store) -> None:
    saved = _save(store)

    found = store.find("ingredient", "key", "ingredient-07")

    assert found is not None
    assert found.name == "ingredient-07"
    assert found.digest == saved.digest


def test_the_header_of_the_weights_says_what_they_are_without_the_long_lists(store: Store) -> None:
    saved = _save(store)

    pedigree = json.loads(read_metadata(store.root / saved.path)["stockpot"])

    assert pedigree == {
        "kind": "ingredient",
        "key": "key",
        "hyperparameters": {"epochs": 3},
        "density": 1.0,
    }


def test_the_density_is_of_weights_alone(store: Store) -> None:
    tensors = {"a.weight": torch.eye(4), "a.bias": torch.zeros(4), "norm.weight": torch.zeros(4)}
    assert store.save("soup", "sparse", "soup", tensors, {}).density == 0.25


@pytest.mark.parametrize(("kind", "key"), [("ingredient", "other"), ("soup", "key")])
def test_another_key_or_kind_is_not_found(store: Store, kind: str, key: str) -> None:
    _save(store)

    assert store.find(kind, key, "name") is None
    assert store.failure(kind, key) is None


def test_the_record_is_written_after_the_weights(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_is_full(path: Path, text: str) -> None:
        raise OSError(f"disk full: {path.name}, {len(text)} characters")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_text", disk_is_full)
        with pytest.raises(OSError, match=r"disk full: key\.json"):
            _save(store)

    assert [path.name for path in store.files()] == ["key.safetensors"]
    assert store.find("ingredient", "key", "name") is None
    assert _save(store) == store.find("ingredient", "key", "ingredient-00")


def test_a_record_without_weights_is_no_model(store: Store) -> None:
    saved = _save(store)
    (store.root / saved.path).unlink()

    assert store.find("ingredient", "key", "name") is None


@pytest.mark.parametrize("content", ["", "{", '{"digest": "ab', "\x00\x00"])
def test_a_damaged_record_is_no_model_and_no_failure(store: Store, content: str) -> None:
    saved = _save(store)
    (store.root / saved.path).with_suffix(".json").write_text(content)

    assert store.find("ingredient", "key", "name") is None
    assert store.failure("ingredient", "key") is None


@pytest.mark.parametrize("change", [-1, 1])
def test_weights_of_another_size_are_not_found(store: Store, change: int) -> None:
    saved = _save(store)
    path = store.root / saved.path
    content = path.read_bytes()
    path.write_bytes(content[:-1] if change < 0 else content + b"\0")

    assert store.find("ingredient", "key", "name") is None


def test_a_failure_is_kept_and_is_no_model(store: Store) -> None:
    store.save_failure("ingredient", "key", "loss became nan at step 3 of 8")

    assert store.failure("ingredient", "key") == "loss became nan at step 3 of 8"
    assert store.find("ingredient", "key", "name") is None


def test_a_model_is_no_failure(store: Store) -> None:
    _save(store)

    assert store.failure("ingredient", "key") is None


def test_equal_models_have_equal_files(tmp_path: Path) -> None:
    stores = [Store(tmp_path / "a"), Store(tmp_path / "b")]

    for store in stores:
        _save(store)

    contents = [[path.read_bytes() for path in store.files()] for store in stores]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 2


def test_the_lock_of_a_model_is_held_by_one(store: Store) -> None:
    taken = threading.Event()

    def take() -> None:
        with store.lock("key"):
            taken.set()

    other = threading.Thread(target=take)
    with store.lock("key"):
        other.start()
        taken_at_once = taken.wait(0.2)
        with store.lock("another key"):
            pass

    assert not taken_at_once
    assert taken.wait(5)
    other.join()


def test_files_are_those_of_models_in_order(store: Store) -> None:
    _save(store, "soup")
    _save(store, "base")
    (store.root / "checkpoints" / ".gitignore").write_text("/base\n")

    names = [path.relative_to(store.root / "checkpoints").as_posix() for path in store.files()]

    assert names == [
        "base/key.json",
        "base/key.safetensors",
        "soups/key.json",
        "soups/key.safetensors",
    ]


def test_folders_are_there_before_any_model(store: Store) -> None:
    store.make_folders()
    store.make_folders()

    folders = {path.name for path in (store.root / "checkpoints").iterdir()}
    assert folders == {"base", "ingredients", "soups", "tuned"}
    assert store.files() == []


def test_a_new_store_is_empty(store: Store) -> None:
    assert store.files() == []
    assert store.find("base", "key", "base") is None
