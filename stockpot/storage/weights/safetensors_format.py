"""The safetensors format: dtypes, and headers read and laid out tensor by tensor."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stockpot.errors import InputError
from stockpot.storage.weights.safetensors_header import read_json_header

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

# Only codes and scales of quantised models have these.
_OF_CODES = {
    "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
}
_READABLE = DTYPES | _OF_CODES
READABLE_DTYPES = frozenset(_READABLE.values())


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        file: the safetensors file.
        dtype: of its elements.
        shape: of the tensor.
        start: position of its first byte in the file.
        num_bytes: size of its data.
    """

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    num_bytes: int

    @property
    def num_elements(self) -> int:
        """The number of elements; 1 for a 0-d tensor."""
        return math.prod(self.shape)


def read_header(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Read names, dtypes, shapes and positions of a file's tensors, and its metadata.

    Raises:
        InputError: the file is missing, truncated, of another format, or has tensors of a dtype
            that cannot be merged.
    """
    entries, metadata, data_start = read_json_header(path)
    tensors = {name: _stored(path, name, entry, data_start) for name, entry in entries.items()}
    return tensors, metadata


def _stored(path: Path, name: str, entry: Mapping[str, Any], data_start: int) -> StoredTensor:
    if entry["dtype"] not in _READABLE:
        raise InputError(
            f"{path}: tensor {name!r}: dtype {entry['dtype']!r} cannot be merged, only "
            f"{sorted(DTYPES)}; convert it first"
        )
    start, end = entry["data_offsets"]
    dtype, shape = _READABLE[entry["dtype"]], tuple(entry["shape"])
    return StoredTensor(path, dtype, shape, data_start + start, end - start)


def build_header(
    tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int]]:
    """Lay out a file: wide dtypes first, then by name, so that all elements are aligned.

    Args:
        tensors: dtype and shape of each tensor, by name.
        metadata: text by name.

    Returns:
        The bytes up to the data, and the position in the file of each tensor.
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
