"""Headers: the format's own library and ours understand each other, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from stockpot.errors import InputError
from stockpot.storage.weights.safetensors_format import DTYPES, build_header, read_header

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def _write(path: Path, header: Any, data: bytes = b"") -> Path:
    """Write a file with any header, whole or not."""
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_a_laid_out_file_is_understood_by_the_formats_own_library(tmp_path: Path) -> None:
    types = {f"{name} {shape}": (DTYPES[name], shape) for name in DTYPES for shape in [(), (0, 2)]}
    types |= {"odd bytes": (torch.int8, (3,)), "ünïcödé": (torch.float16, (1, 5))}
    path = tmp_path / "model.safetensors"

    head, starts = build_header(types, {"format": "pt", "who": "Zoë"})
    path.write_bytes(head.ljust(len(head) + sum(_num_bytes(*t) for t in types.values()), b"\0"))

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    found = {name: (t.dtype, tuple(t.shape)) for name, t in load_file(path).items()}
    assert metadata == {"format": "pt", "who": "Zoë"}
    assert found == types
    assert all(starts[name] % dtype.itemsize == 0 for name, (dtype, _) in types.items())


def _num_bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return torch.empty(shape, dtype=dtype).nbytes


def test_a_header_that_we_lay_out_is_read_back(tmp_path: Path) -> None:
    types = {"b": (torch.float32, (2, 3)), "a": (torch.bool, (5,)), "c": (torch.int64, ())}
    path = tmp_path / "model.safetensors"
    head, starts = build_header(types, {"who": "me"})
    path.write_bytes(head + bytes(24 + 5 + 8))

    tensors, metadata = read_header(path)

    assert {name: (t.dtype, t.shape) for name, t in tensors.items()} == types
    assert {name: tensor.start for name, tensor in tensors.items()} == starts
    assert metadata == {"who": "me"}


def test_the_same_tensors_give_the_same_bytes_in_whatever_order() -> None:
    types = {"b": (torch.float32, (2, 3)), "a": (torch.bool, (5,)), "c": (torch.float32, ())}

    head, _ = build_header(types, {"x": "1", "y": "2"})

    assert build_header(dict(reversed(types.items())), {"y": "2", "x": "1"})[0] == head


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\0\0",
        (100).to_bytes(8, "little") + b"{}",
        (2**64 - 1).to_bytes(8, "little") + b"{}",
        (5).to_bytes(8, "little") + b"hello",
        (4).to_bytes(8, "little") + b"\xff\xfe\xfd\xfc",
        (2).to_bytes(8, "little") + b"[]",
        (90_000).to_bytes(8, "little") + b"[" * 90_000,
        (5_000).to_bytes(8, "little") + b"9" * 5_000,
    ],
    ids=["empty", "3 bytes", "cut", "absurd", "no JSON", "no UTF-8", "list", "deep", "huge number"],
)
def test_what_is_no_header_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)

    with pytest.raises(InputError, match=f"^{path}: not a whole safetensors file"):
        read_header(path)


def test_a_file_that_is_missing_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.safetensors: no such file$"):
        read_header(tmp_path / "gone.safetensors")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)$"):
        read_header(tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        ENTRY | {"shape": 2},
        ENTRY | {"shape": [-1, -2]},
        ENTRY | {"shape": [2.0]},
        ENTRY | {"shape": [2**62]},
        ENTRY | {"data_offsets": [0]},
        ENTRY | {"data_offsets": [0, 7]},
        ENTRY | {"data_offsets": [8, 0]},
        ENTRY | {"dtype": "F31"},
    ],
    ids=str,
)
def test_a_tensor_that_cannot_be_is_refused(tmp_path: Path, entry: Any) -> None:
    path = _write(tmp_path / "model.safetensors", {"head.weight": entry}, bytes(8))

    with pytest.raises(InputError, match=f"^{path}: not a whole safetensors file"):
        read_header(path)


def test_a_dtype_that_cannot_be_merged_is_refused_by_the_tensors_name(tmp_path: Path) -> None:
    entry = {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}
    path = _write(tmp_path / "model.safetensors", {"head.weight": entry}, bytes(8))
    message = r"tensor 'head.weight': dtype 'C64' cannot be merged, only \['BF16', 'BOOL'"

    with pytest.raises(InputError, match=message):
        read_header(path)


@pytest.mark.parametrize(
    "offsets",
    [[[0, 8], [0, 8]], [[0, 8], [4, 12]], [[0, 8], [9, 17]], [[1, 9], [9, 17]]],
    ids=["same", "overlap", "gap", "gap before the first"],
)
def test_tensors_that_overlap_or_leave_gaps_are_refused(
    tmp_path: Path, offsets: list[list[int]]
) -> None:
    header = {f"t{n}": ENTRY | {"data_offsets": pair} for n, pair in enumerate(offsets)}
    path = _write(tmp_path / "model.safetensors", header, bytes(17))

    with pytest.raises(InputError, match=r"not a whole safetensors file .*tensor `t"):
        read_header(path)


@pytest.mark.parametrize("num_bytes", [0, 7, 9])
def test_a_file_with_too_little_or_too_much_data_is_refused(tmp_path: Path, num_bytes: int) -> None:
    path = _write(tmp_path / "model.safetensors", {"a": ENTRY}, bytes(num_bytes))

    with pytest.raises(InputError, match=r"not a whole safetensors file .*file not fully covered"):
        read_header(path)


@pytest.mark.parametrize("metadata", [[], {"epoch": 3}, "text"])
def test_metadata_that_is_not_text_is_refused(tmp_path: Path, metadata: Any) -> None:
    path = _write(tmp_path / "model.safetensors", {"__metadata__": metadata})

    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_header(path)


def test_tensors_without_elements_may_lie_anywhere_between_others(tmp_path: Path) -> None:
    empty = {"dtype": "F32", "shape": [0, 3], "data_offsets": [8, 8]}
    after = ENTRY | {"data_offsets": [8, 16]}
    path = _write(tmp_path / "m.safetensors", {"z": after, "e": empty, "a": ENTRY}, bytes(16))

    tensors, _ = read_header(path)

    assert {name: tensor.num_elements for name, tensor in tensors.items()} == {
        "z": 2,
        "e": 0,
        "a": 2,
    }
