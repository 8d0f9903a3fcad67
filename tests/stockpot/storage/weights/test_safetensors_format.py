"""Headers: the format's own library and ours understand each other, and damage is named."""

from __future__ import annotations

import json
import os
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
    ("content", "message"),
    [
        (b"", r"not a whole safetensors file \(0 bytes"),
        (b"\x08\0\0", r"not a whole safetensors file \(3 bytes"),
        ((100).to_bytes(8, "little") + b"{}", r"not a whole safetensors file \(10 bytes, header"),
        ((2**64 - 1).to_bytes(8, "little") + b"{}", "header of 18446744073709551615"),
        ((5).to_bytes(8, "little") + b"hello", r"not a safetensors file \(Expecting value"),
        ((4).to_bytes(8, "little") + b"\xff\xfe\xfd\xfc", "not a safetensors file"),
        ((2).to_bytes(8, "little") + b"[]", "its header is no mapping"),
        ((90_000).to_bytes(8, "little") + b"[" * 90_000, "not a safetensors file"),
        ((5_000).to_bytes(8, "little") + b"9" * 5_000, "not a safetensors file"),
    ],
    ids=["empty", "3 bytes", "cut", "absurd", "no JSON", "no UTF-8", "list", "deep", "huge number"],
)
def test_what_is_no_header_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)

    with pytest.raises(InputError, match=f"^{path}: .*{message}"):
        read_header(path)


def test_a_header_larger_than_the_format_allows_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((100_000_001).to_bytes(8, "little"))
    os.truncate(path, 200_000_000)

    with pytest.raises(InputError, match=r"not a whole safetensors file .* header of 100000001"):
        read_header(path)


def test_a_file_that_is_missing_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.safetensors: no such file$"):
        read_header(tmp_path / "gone.safetensors")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)$"):
        read_header(tmp_path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (None, "not a safetensors entry"),
        ([], "not a safetensors entry"),
        ({}, r"not a safetensors entry \('dtype'\)"),
        (ENTRY | {"dtype": []}, "not a safetensors entry"),
        (ENTRY | {"shape": 2}, "not a safetensors entry"),
        (ENTRY | {"data_offsets": [0]}, "not a safetensors entry"),
        (ENTRY | {"shape": [-1, -2]}, "must be whole numbers of at least 0"),
        (ENTRY | {"shape": [2.0]}, "must be whole numbers of at least 0"),
        (ENTRY | {"shape": ["2"]}, "must be whole numbers of at least 0"),
        (ENTRY | {"shape": [float("inf")]}, "must be whole numbers of at least 0"),
        (ENTRY | {"data_offsets": [-8, 0]}, "must be whole numbers of at least 0"),
        (ENTRY | {"data_offsets": [0, 7]}, r"has 7 bytes, shape \(2,\) needs 8"),
        (ENTRY | {"data_offsets": [8, 0]}, r"has -8 bytes, shape \(2,\) needs 8"),
        (ENTRY | {"shape": [2**62]}, "has 8 bytes"),
        (ENTRY | {"dtype": "F4"}, r"dtype 'F4' cannot be merged, only \['BF16', 'BOOL'"),
    ],
    ids=str,
)
def test_a_tensor_that_cannot_be_is_refused_by_name(
    tmp_path: Path, entry: Any, message: str
) -> None:
    path = _write(tmp_path / "model.safetensors", {"head.weight": entry}, bytes(8))

    with pytest.raises(InputError, match=rf"{path}: tensor 'head.weight': .*{message}"):
        read_header(path)


@pytest.mark.parametrize(
    ("offsets", "start", "expected"),
    [
        ([[0, 8], [0, 8]], 0, 8),
        ([[0, 8], [4, 12]], 4, 8),
        ([[0, 8], [9, 17]], 9, 8),
        ([[1, 9], [9, 17]], 1, 0),
    ],
    ids=["same", "overlap", "gap", "gap before the first"],
)
def test_tensors_that_overlap_or_leave_gaps_are_refused(
    tmp_path: Path, offsets: list[list[int]], start: int, expected: int
) -> None:
    header = {f"t{n}": ENTRY | {"data_offsets": pair} for n, pair in enumerate(offsets)}
    path = _write(tmp_path / "model.safetensors", header, bytes(17))
    data_start = path.stat().st_size - 17
    message = f"starts at byte {data_start + start}, must start at {data_start + expected}"

    with pytest.raises(InputError, match=message):
        read_header(path)


@pytest.mark.parametrize("num_bytes", [0, 7, 9])
def test_a_file_with_too_little_or_too_much_data_is_refused(tmp_path: Path, num_bytes: int) -> None:
    path = _write(tmp_path / "model.safetensors", {"a": ENTRY}, bytes(num_bytes))

    with pytest.raises(InputError, match=r"not a whole safetensors file .* its header requires"):
        read_header(path)


@pytest.mark.parametrize("metadata", [[], {"epoch": 3}, "text"])
def test_metadata_that_is_not_text_is_refused(tmp_path: Path, metadata: Any) -> None:
    path = _write(tmp_path / "model.safetensors", {"__metadata__": metadata})

    with pytest.raises(InputError, match="its metadata is not text by name"):
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
