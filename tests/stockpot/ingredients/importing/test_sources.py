from __future__ import annotations

from pathlib import Path

import pytest

from stockpot.errors import InputError
from stockpot.ingredients.importing.sources import find_sources, source_at

INDEX = '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(root: Path, *patterns: str) -> dict[str, str]:
    return {source.name: source.shown for source in find_sources(root, patterns)}


@pytest.mark.parametrize(
    ("pattern", "path", "name"),
    [
        ("runs/*/model.safetensors", "runs/a/model.safetensors", "imported-a"),
        ("runs/*/checkpoints/*.ckpt", "runs/a/checkpoints/epoch=3 x.ckpt", "imported-a-epoch-3-x"),
        ("runs/**/*.pt", "runs/a/b/last.pt", "imported-a-b-last"),
        ("*.bin", "best.bin", "imported-best"),
        ("best.pth", "best.pth", "imported-best"),
        ("runs/a/model.safetensors", "runs/a/model.safetensors", "imported-a"),
        ("runs/[ab]*", "runs/b.v2.pt", "imported-b.v2"),
    ],
)
def test_a_name_has_the_parts_that_wildcards_match(
    tmp_path: Path, pattern: str, path: str, name: str
) -> None:
    touch(tmp_path, path)

    assert found(tmp_path, pattern) == {name: path}


def test_another_checkpoint_changes_no_name(tmp_path: Path) -> None:
    touch(tmp_path, "runs/b/model.safetensors")
    before = found(tmp_path, "runs/*/model.safetensors")
    touch(tmp_path, "runs/a/model.safetensors")

    after = found(tmp_path, "runs/*/model.safetensors")

    assert [*after] == ["imported-a", "imported-b"]
    assert before.items() <= after.items()


def test_equal_names_are_made_unique_by_their_paths(tmp_path: Path) -> None:
    touch(tmp_path, "x.pt", "x.bin", "y.pt")

    names = [*found(tmp_path, "*.pt", "*.bin")]

    assert len(set(names)) == 3
    assert names[1] == "imported-y"
    assert all(name.startswith("imported-x-") for name in (names[0], names[2]))


def test_a_checkpoint_that_several_patterns_match_is_found_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.pt", "b.pt")

    assert [*found(tmp_path, "b.pt", "*.pt")] == ["imported-b", "imported-a"]


def test_wildcards_skip_files_that_are_not_weights(tmp_path: Path) -> None:
    touch(tmp_path, "all/a.pt", "all/b.json", "all/hyperparameters.csv", "all/.b.pt")

    assert found(tmp_path, "all/*") == {"imported-a": "all/a.pt"}


def test_shards_and_adapters_are_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "m/s/model-1.safetensors", "m/s/model-2.safetensors")
    (tmp_path / "m/s/model.safetensors.index.json").write_text(INDEX)
    touch(tmp_path, "m/l/adapter_model.safetensors", "m/l/adapter_config.json")

    adapter, shards = find_sources(tmp_path, ["m/*/*.safetensors"])

    assert (adapter.name, adapter.shown, adapter.is_adapter) == ("imported-l", "m/l", True)
    assert (shards.name, shards.shown, shards.is_adapter) == ("imported-s", "m/s", False)
    assert [file.name for file in adapter.files] == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert [file.name for file in shards.files] == [
        "model.safetensors.index.json",
        "model-1.safetensors",
        "model-2.safetensors",
    ]


def test_a_folder_with_ambiguous_weights_has_no_files(tmp_path: Path) -> None:
    touch(tmp_path, "f/notes.txt", "g/adapter_config.json", "h/model-1.safetensors")
    (tmp_path / "h/model.safetensors.index.json").write_text(INDEX)

    unclear, adapter, incomplete = find_sources(tmp_path, ["?"])

    assert (unclear.files, incomplete.files) == ((), ())
    assert [file.name for file in adapter.files] == ["adapter_config.json"]


def test_paths_outside_the_project_are_shown_whole(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.pt", "project/params.yaml")

    [source] = find_sources(tmp_path / "project", [str(tmp_path / "elsewhere" / "*.pt")])

    assert source.shown == str(tmp_path / "elsewhere" / "a.pt")


@pytest.mark.parametrize("pattern", ["runs/*.pt", "missing.pt"])
def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(InputError, match=r"sweep.import: must be .*which matches nothing in .*"):
        find_sources(tmp_path, [pattern])


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^base.pt: no such file or folder$"):
        source_at(tmp_path, tmp_path / "base.pt", "base")
