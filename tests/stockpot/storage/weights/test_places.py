"""Places of outputs: what may be replaced, and that one whole model is there at any time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stockpot.errors import InputError
from stockpot.storage.weights import places
from stockpot.storage.weights.output import ShardedOutput
from stockpot.storage.weights.places import check_apart, check_place, publish, sole_place

METADATA = {"stockpot.merge": "{}"}


def _model(folder: Path, value: float) -> Path:
    folder.mkdir()
    save_file({"w": torch.full((3,), value)}, folder / "model.safetensors", METADATA)
    return folder


def _value(folder: Path) -> float:
    return load_file(folder / "model.safetensors")["w"][0].item()


def _write(place: Path, value: float, inputs: list[Path] | None) -> None:
    output = ShardedOutput(place, {"w": (torch.float32, (3,))}, METADATA, 10**9, inputs)
    with output.opened("key") as shards, output.writing(shards[0]) as writer:
        writer.write("w", torch.full((3,), value))


@pytest.fixture(params=[True, False], ids=["exchange", "two renames"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(places, "_exchange", lambda _one, _other: False)


@pytest.mark.usefixtures("_way")
def test_a_model_is_replaced_whole_and_nothing_is_left_over(tmp_path: Path) -> None:
    place = _model(tmp_path / "merged", 1.0)
    (place / "old.json").write_text("{}")

    _write(place, 2.0, inputs=[])

    assert _value(place) == 2.0
    assert [path.name for path in place.iterdir()] == ["model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def test_a_single_file_is_replaced(tmp_path: Path) -> None:
    place = tmp_path / "merged.safetensors"
    for value in (1.0, 2.0):
        _write(place, value, inputs=[])

    assert load_file(place)["w"].tolist() == [2.0] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["merged.safetensors"]


def test_an_error_before_the_end_leaves_the_old_model(tmp_path: Path) -> None:
    place = _model(tmp_path / "merged", 1.0)
    output = ShardedOutput(place, {"w": (torch.float32, (3,))}, METADATA, 10**9, [])

    with pytest.raises(RuntimeError), output.opened("key"):
        raise RuntimeError

    assert _value(place) == 1.0


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("step", ["rename", "rmtree"])
def test_a_process_that_is_killed_in_the_exchange_leaves_one_whole_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    place, work = _model(tmp_path / "merged", 1.0), _model(tmp_path / ".merged.merging", 2.0)
    rename = Path.rename

    def killed(*_arguments: object) -> None:
        os._exit(9)

    def rename_once(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", killed)
        return rename(path, target)

    child = os.fork()
    if child == 0:
        if step == "rename":
            monkeypatch.setattr(Path, "rename", rename_once)
        monkeypatch.setattr(shutil, "rmtree", killed)
        publish(work, place)
        os._exit(0)
    os.waitpid(child, 0)

    with sole_place(place):
        assert _value(place) in (1.0, 2.0)
    _write(place, 3.0, inputs=[])
    assert _value(place) == 3.0
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def test_what_stockpot_has_not_written_is_not_replaced(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    save_file({"w": torch.ones(1)}, foreign / "model.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(_model(tmp_path / "merged", 1.0))
    (_model(tmp_path / "repository", 1.0) / ".git").mkdir()
    _model(tmp_path / "folder.safetensors", 1.0)

    for name, expected in {
        "foreign": "not a model made by stockpot",
        "empty": "not a model made by stockpot",
        "link": "is a link",
        "repository": r"has \.git",
        "folder.safetensors": "not of the kind",
    }.items():
        with pytest.raises(InputError, match=expected):
            check_place(tmp_path / name, inputs=[])
    for root in (Path("/"), Path(), Path("..")):
        with pytest.raises(InputError, match="must end in the name"):
            check_place(root, inputs=[])


def test_a_place_with_an_input_or_the_working_directory_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = _model(tmp_path / "merged", 1.0)
    blob = tmp_path / "blob"
    save_file({"w": torch.ones(1)}, blob)
    (place / "cached.safetensors").symlink_to(blob)

    for used in (place / "model.safetensors", place / "cached.safetensors", place):
        with pytest.raises(InputError, match="is in use, as"):
            check_place(place, inputs=[used])
    check_place(place, inputs=[tmp_path, blob])
    monkeypatch.chdir(place)
    with pytest.raises(InputError, match="is in use, as"):
        check_place(place, inputs=[])


def test_a_place_that_no_file_system_takes_is_refused(tmp_path: Path) -> None:
    check_place(tmp_path / ("x" * 245))

    for name in ("x" * 246, "\u00e9" * 123, "/".join(["x" * 200] * 30)):
        with pytest.raises(InputError, match=r"must have at most 245 bytes|cannot be a path"):
            check_place(tmp_path / name)


def test_a_place_in_the_folder_of_a_model_that_is_read_is_refused(tmp_path: Path) -> None:
    model = _model(tmp_path / "model", 1.0)
    (tmp_path / "link").symlink_to(model)

    check_apart(tmp_path / "model-2", [model, None])
    for place in (model / "merged", tmp_path / "link" / "x.safetensors", model):
        with pytest.raises(InputError, match=r"is in the folder of .*model, which is an input"):
            check_apart(place, [None, model])
