"""Checkpoints: safetensors files, written atomically, with metadata and a SHA-256 digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.errors import InputError
from stockpot.storage.atomic_files import atomic_path
from stockpot.storage.digests import file_digest
from stockpot.storage.remote.opening import store_of
from stockpot.storage.weights.safetensors_header import read_json_header, reading

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A reference to the weights of one model.

    Attributes:
        path: the file, relative to the project root (POSIX form).
        key: content key, a hash of everything that the weights depend on.
        digest: SHA-256 of the file's bytes, hex.
    """

    path: str
    key: str
    digest: str


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write `tensors` and `metadata` to a safetensors file and return its SHA-256 digest.

    The bytes depend only on names, values and metadata (safetensors sorts tensors by dtype and
    name; we sort the metadata), so equal contents have equal digests.

    Raises:
        OSError: the file cannot be written; `path` is unchanged.
    """
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata=dict(metadata))
        _sort_metadata(temporary)
        with temporary.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _sort_metadata(path: Path) -> None:
    """Sort the metadata in a header, which safetensors writes in random order."""
    tensors, metadata, data_start = read_json_header(path)
    header = {"__metadata__": dict(sorted(metadata.items())), **tensors}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(data_start - 8)
    assert len(text) == data_start - 8
    with path.open("r+b") as file:
        file.seek(8)
        file.write(text)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file into memory, on the CPU.

    Raises:
        InputError: the file is missing, truncated or of another format.
    """
    from safetensors.torch import load_file

    with reading(path):
        return load_file(path)


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata in a safetensors header, without reading any tensor.

    Raises:
        InputError: the file is missing, truncated or of another format.
    """
    return read_json_header(path)[1]


def verify(root: Path, checkpoint: Checkpoint) -> Path:
    """Return the file of `checkpoint` after verifying its digest.

    A file that is missing is fetched from the shared store, if the project has one.

    Raises:
        InputError: the file is missing or its digest differs, or it cannot be fetched.
        StageFailed: the shared store does not answer.
    """
    path = root / checkpoint.path
    if not path.exists() and (shared := store_of(root)):
        shared.fetch_weights(checkpoint.digest, path)
    if not path.exists():
        raise InputError(f"{checkpoint.path}: no such checkpoint; run `dvc pull` or `stockpot run`")
    found = file_digest(path)
    if found != checkpoint.digest:
        raise InputError(
            f"{checkpoint.path}: digest is {found[:12]}, expected {checkpoint.digest[:12]}; "
            "the file was changed or damaged: delete it and run again"
        )
    return path
