from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.storage.checkpoints import (
    Checkpoint,
    load_tensors,
    read_metadata,
    save_checkpoint,
    verify,
)
from stockpot.storage.digests import file_digest


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "head.weight": torch.randn(3, 5, generator=generator),
        "head.bias": torch.randn(3, generator=generator).bfloat16(),
        "norm.num_batches_tracked": torch.tensor(7),
        "empty": torch.zeros(0, 2),
    }


def _flip_a_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_what_is_saved_is_read_bit_for_bit(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    path = tmp_path / "folder" / "a.safetensors"

    save_checkpoint(path, tensors, {})
    read = load_tensors(path)

    assert read.keys() == tensors.keys()
    assert all(read[name].dtype == tensor.dtype for name, tensor in tensors.items())
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_a_view_that_is_not_contiguous_is_saved_as_what_it_shows(tmp_path: Path) -> None:
    weights = torch.arange(6.0).view(2, 3).t()

    save_checkpoint(tmp_path / "a.safetensors", {"w": weights.requires_grad_()}, {})

    assert torch.equal(load_tensors(tmp_path / "a.safetensors")["w"], weights)


def test_the_digest_is_the_sha256_of_the_file(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    path = tmp_path / "a.safetensors"

    digest = save_checkpoint(path, tensors, {"a": "b"})

    assert digest == hashlib.sha256(path.read_bytes()).hexdigest() == file_digest(path)


def test_equal_contents_have_equal_bytes_whatever_their_order(
    tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    backwards = dict(reversed(tensors.items()))

    first = save_checkpoint(tmp_path / "a", tensors, {"x": "1", "y": "2", "z": "3"})
    second = save_checkpoint(tmp_path / "b", backwards, {"z": "3", "y": "2", "x": "1"})

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert first == second


def test_another_value_name_or_metadata_is_another_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"

    digests = [
        save_checkpoint(path, {"w": torch.zeros(2)}, {}),
        save_checkpoint(path, {"w": torch.ones(2)}, {}),
        save_checkpoint(path, {"v": torch.zeros(2)}, {}),
        save_checkpoint(path, {"w": torch.zeros(2)}, {"a": "b"}),
    ]

    assert len(set(digests)) == 4


def test_metadata_is_read_from_the_header(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    path = tmp_path / "a.safetensors"

    save_checkpoint(path, tensors, {"stockpot": '{"kind": "soup"}', "step": "3"})

    assert read_metadata(path) == {"stockpot": '{"kind": "soup"}', "step": "3"}


def test_a_file_without_metadata_has_none(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", {"w": torch.zeros(2)}, {})

    assert read_metadata(tmp_path / "a") == {}


def test_an_error_while_saving_leaves_nothing(tmp_path: Path) -> None:
    shared = torch.zeros(4)

    with pytest.raises(RuntimeError, match="share memory"):
        save_checkpoint(tmp_path / "a", {"one": shared, "two": shared}, {})

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, tensors: dict[str, Tensor], kept: int) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tensors, {})
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(InputError, match=r"a\.safetensors: not a whole safetensors file \("):
        load_tensors(path)


@pytest.mark.parametrize("read", [load_tensors, read_metadata])
def test_a_missing_file_is_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(InputError, match=r"a\.safetensors: no such file$"):
        read(tmp_path / "a.safetensors")


@pytest.mark.parametrize("content", [b"abc", struct.pack("<Q", 2) + b"[]"])
def test_metadata_of_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)

    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_metadata(path)


def test_verify_returns_the_file_whose_digest_is_right(
    tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    digest = save_checkpoint(tmp_path / "sub" / "a", tensors, {})

    assert verify(tmp_path, Checkpoint("sub/a", "key", digest)) == tmp_path / "sub" / "a"


@pytest.mark.parametrize("position", [20, -1])
def test_a_flipped_byte_is_found(tmp_path: Path, tensors: dict[str, Tensor], position: int) -> None:
    path = tmp_path / "a"
    digest = save_checkpoint(path, tensors, {})
    _flip_a_byte(path, position)

    with pytest.raises(InputError) as caught:
        verify(tmp_path, Checkpoint("a", "key", digest))

    assert str(caught.value) == (
        f"a: digest is {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}, expected "
        f"{digest[:12]}; the file was changed or damaged: delete it and run again"
    )


def test_a_file_that_changed_after_it_was_verified_is_found(tmp_path: Path) -> None:
    digest = save_checkpoint(tmp_path / "a", {"w": torch.zeros(2)}, {})
    reference = Checkpoint("a", "key", digest)
    verify(tmp_path, reference)

    save_checkpoint(tmp_path / "a", {"w": torch.ones(2)}, {})

    with pytest.raises(InputError, match="the file was changed or damaged"):
        verify(tmp_path, reference)


def test_verify_names_a_missing_file_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        verify(tmp_path, Checkpoint("a", "key", "0" * 64))

    assert str(caught.value) == "a: no such checkpoint; run `dvc pull` or `stockpot run`"


def test_the_header_is_readable_json(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save_checkpoint(path, {"w": torch.zeros(2, 3)}, {"a": "b"})

    content = path.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])

    assert header["__metadata__"] == {"a": "b"}
    assert header["w"]["shape"] == [2, 3]
