"""Weights are found by their names alone, and digested in the background."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from stockpot.errors import InputError
from stockpot.storage.digests import files_digest
from stockpot.storage.weights.model_files import INDEX, digest_ahead, locate_weights


def _written(path: Path, content: bytes = b"weights") -> Path:
    path.write_bytes(content)
    return path


def _index(folder: Path, **shard_of: str) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": shard_of}))


def test_shards_come_in_the_order_of_their_names_and_others_are_left_out(tmp_path: Path) -> None:
    for name in ("b.safetensors", "a.safetensors", "model.safetensors"):
        _written(tmp_path / name)
    _index(tmp_path, x="b.safetensors", y="a.safetensors", z="b.safetensors")

    assert locate_weights(tmp_path) == (tmp_path / "a.safetensors", tmp_path / "b.safetensors")


def test_shards_of_a_variant_are_taken_where_there_are_no_others(tmp_path: Path) -> None:
    shard = _written(tmp_path / "model.fp16-00001-of-00001.safetensors")
    for variant in ("fp16", "bf16"):
        index = tmp_path / f"model.safetensors.index.{variant}.json"
        index.write_text(json.dumps({"weight_map": {"x": shard.name}}))

    with pytest.raises(InputError, match=r"shards of several variants, .*bf16.*; keep those"):
        locate_weights(tmp_path)
    index.unlink()
    assert locate_weights(tmp_path) == (shard,)
    plain = _written(tmp_path / "model.safetensors")
    assert locate_weights(tmp_path) == (plain,)


@pytest.mark.parametrize(
    ("shard", "index"),
    [
        ("model-00001-of-00002.safetensors", "model.safetensors.index.json"),
        (
            "diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
            "diffusion_pytorch_model.safetensors.index.fp16.json",
        ),
        ("pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"),
    ],
)
def test_shards_without_an_index_are_refused_with_its_name(
    tmp_path: Path, shard: str, index: str
) -> None:
    _written(tmp_path / shard)

    with pytest.raises(InputError, match=f"without an index; download {re.escape(index)} to it"):
        locate_weights(tmp_path)


def test_a_folder_of_several_files_without_an_index_is_refused_with_their_names(
    tmp_path: Path,
) -> None:
    _written(tmp_path / "a.safetensors")
    _written(tmp_path / "b.safetensors")

    with pytest.raises(InputError, match=r"found \['a.safetensors', 'b.safetensors'\]"):
        locate_weights(tmp_path)


def test_one_file_is_its_sha_256_and_several_are_that_of_theirs(tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000  # more than one chunk
    first, second = _written(tmp_path / "1", content), _written(tmp_path / "2", b"")
    digests = [hashlib.sha256(content).hexdigest(), hashlib.sha256(b"").hexdigest()]

    assert files_digest([first], "sha256") == digests[0]
    assert (
        files_digest([first, second], "sha256")
        == hashlib.sha256("\n".join(digests).encode()).hexdigest()
    )


def test_a_digest_begun_ahead_is_not_that_of_a_file_that_changed_since(tmp_path: Path) -> None:
    file = _written(tmp_path / "model.safetensors", b"before")
    digest_ahead([tmp_path])
    assert files_digest([file], "blake3") == f"blake3:{blake3(b'before').hexdigest()}"

    _written(file, b"and after")

    assert files_digest([file], "blake3") == f"blake3:{blake3(b'and after').hexdigest()}"


def test_what_is_not_there_is_left_to_who_opens_it(tmp_path: Path) -> None:
    digest_ahead([tmp_path / "none", tmp_path])

    with pytest.raises(FileNotFoundError):
        files_digest([tmp_path / "none"], "blake3")


def test_an_error_elsewhere_does_not_wait_for_a_digest(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as opened:
        opened.truncate(200_000_000_000)  # minutes; no block of it is on the disk
    code = (
        "from pathlib import Path; from stockpot.storage.weights.model_files import digest_ahead; "
        f"digest_ahead([Path({str(file)!r})]); raise SystemExit(3)"
    )

    ended = subprocess.run([sys.executable, "-c", code], timeout=20, check=False)

    assert ended.returncode == 3


def test_it_imports_no_torch() -> None:
    code = (
        "import stockpot.storage.weights.model_files, sys; raise SystemExit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("shard", "index"),
    [
        ("model-00001-of-00002.safetensors", INDEX),
        ("pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"),
    ],
)
def test_a_shard_without_an_index_is_no_model(tmp_path: Path, shard: str, index: str) -> None:
    (tmp_path / shard).write_bytes(b"")

    with pytest.raises(InputError, match=rf"has shards \('{shard}'\) without an .* {index}"):
        locate_weights(tmp_path)


def test_the_only_shard_of_a_model_needs_no_index(tmp_path: Path) -> None:
    only = tmp_path / "model-00001-of-00001.safetensors"
    only.write_bytes(b"")

    assert locate_weights(tmp_path) == (only,)


def test_a_pickle_of_another_name_in_a_folder_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"")

    with pytest.raises(InputError, match=r"found none; to merge 'last.ckpt', name the file"):
        locate_weights(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "other.safetensors", "a.safetensors"])
def test_a_pipe_in_the_place_of_weights_is_not_waited_for(tmp_path: Path, name: str) -> None:
    if name == "a.safetensors":
        _index(tmp_path, x=name)
    os.mkfifo(tmp_path / name)

    for path in (tmp_path, tmp_path / name):
        with pytest.raises(InputError, match=name):
            locate_weights(path)


def test_an_index_may_not_name_what_no_file_can_be_named(tmp_path: Path) -> None:
    for name in ("x" * 300, "a\0b", "..", "a/b"):
        _index(tmp_path, w=name)
        with pytest.raises(InputError, match="which is not a file of its folder"):
            locate_weights(tmp_path)


def test_an_index_that_names_a_tensor_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text('{"weight_map": {"w": "a.safetensors", "w": "b.safetensors"}}')

    with pytest.raises(InputError, match=r"not an index of shards \('w' is in it twice\)"):
        locate_weights(tmp_path)


def test_a_pipe_in_the_place_of_an_index_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / INDEX)

    with pytest.raises(InputError, match="must be an index of shards, got a folder, pipe"):
        locate_weights(tmp_path)
