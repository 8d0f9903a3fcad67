"""The safetensors format: its dtypes, and headers that are read without trust."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stockpot.errors import InputError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

_MAX_HEADER_BYTES = 100_000_000  # the limit of the format


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes:
        file: the safetensors file.
        dtype: of its elements.
        shape: of the tensor.
        start: of its bytes in the file.
        num_bytes: how many these are.
    """

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    num_bytes: int

    @property
    def num_elements(self) -> int:
        """How many elements it has; 1 for a 0-d tensor."""
        return math.prod(self.shape)


def read_header(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Read names, types and places of a file's tensors, and its metadata; no weights.

    Raises:
        InputError: the file is missing, cut short, or not of this format.
    """
    text, size = _read_text(path)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    if not isinstance(header, dict):
        raise InputError(f"{path}: not a safetensors file (its header is no mapping)")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise InputError(f"{path}: not a safetensors file (its metadata is not text by name)")
    data_start = 8 + len(text)
    tensors = {name: _stored(path, name, entry, data_start) for name, entry in header.items()}
    _check_places(path, tensors, data_start, size)
    return tensors, metadata


def _read_text(path: Path) -> tuple[bytes, int]:
    """Return the JSON of a header, and the size of the file."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if length > min(_MAX_HEADER_BYTES, size - 8):
                raise InputError(
                    f"{path}: not a whole safetensors file ({size} bytes, header of {length})"
                )
            return file.read(length), size
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _check_places(
    path: Path, tensors: Mapping[str, StoredTensor], data_start: int, size: int
) -> None:
    """Refuse tensors that overlap or leave gaps, as the format does, and a file cut short."""
    end = data_start
    for name, tensor in sorted(
        tensors.items(), key=lambda item: (item[1].start, item[1].num_bytes)
    ):
        if tensor.start != end:
            raise InputError(
                f"{path}: tensor {name!r}: starts at byte {tensor.start}, must start at {end}, "
                "where the one before it ends"
            )
        end += tensor.num_bytes
    if end != size:
        raise InputError(
            f"{path}: not a whole safetensors file ({size} bytes, its header tells of {end})"
        )


def _stored(path: Path, name: str, entry: Any, data_start: int) -> StoredTensor:
    try:
        dtype, shape = DTYPES.get(entry["dtype"]), tuple(entry["shape"])
        start, end = entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: tensor {name!r}: not a safetensors entry ({error})") from error
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
        raise InputError(
            f"{path}: tensor {name!r}: shape {shape} and offsets {(start, end)} must be whole "
            "numbers of at least 0"
        )
    if dtype is None:
        raise InputError(
            f"{path}: tensor {name!r}: dtype {entry['dtype']!r} cannot be merged, only "
            f"{sorted(DTYPES)}; convert it first"
        )
    num_bytes = math.prod(shape) * dtype.itemsize
    if end - start != num_bytes:
        raise InputError(
            f"{path}: tensor {name!r}: has {end - start} bytes, shape {shape} needs {num_bytes}"
        )
    return StoredTensor(path, dtype, shape, data_start + start, num_bytes)


def build_header(
    tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int]]:
    """Lay out a file: wide elements first, then by name, so that all of them are aligned.

    Args:
        tensors: dtype and shape of each tensor, by name.
        metadata: text by name.

    Returns:
        The bytes up to the data, and where in the file each tensor starts.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name][0].itemsize, name))
    entries: dict[str, Any] = {}
    offset = 0
    for name in order:
        dtype, shape = tensors[name]
        end = offset + math.prod(shape) * dtype.itemsize
        entries[name] = {
            "dtype": NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [offset, end],
        }
        offset = end
    content = {"__metadata__": dict(sorted(metadata.items())), **entries}
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # the data starts at a multiple of 8
    head = struct.pack("<Q", len(text)) + text
    return head, {name: len(head) + entries[name]["data_offsets"][0] for name in order}
