"""Checkpoints: safetensors in and out, atomic, with a SHA-256 digest and a readable header."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.errors import InputError
from stockpot.storage.atomic_files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A reference to the weights of one model; small enough to pass anywhere.

    Attributes:
        path: the file, relative to the project root (POSIX form).
        key: the content key: a hash of all that the weights were made from.
        digest: SHA-256 of the file's bytes, hex.
    """

    path: str
    key: str
    digest: str


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write `tensors` and `metadata` to a safetensors file and return its SHA-256 digest.

    The bytes depend on names, values and metadata alone (safetensors orders tensors by dtype
    and name; we order the metadata), so equal contents have equal digests.

    Raises:
        OSError: the file cannot be written; nothing is left under `path`.
    """
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata=dict(metadata))
        _order_metadata(temporary)
        return _sha256(temporary)


def _order_metadata(path: Path) -> None:
    """Sort the metadata in a header, which safetensors writes in an order that is random."""
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        assert len(text) == length
        file.seek(8)
        file.write(text)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file into memory, on the CPU.

    Raises:
        InputError: the file is missing or is not a whole safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint") from None
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole safetensors file ({error})") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata in a safetensors header, without reading any tensor.

    Raises:
        InputError: the file is missing, or its header is not one of safetensors.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MAX_HEADER_BYTES:
                raise InputError(f"{path}: header of {length} bytes, not a safetensors file")
            header = json.loads(file.read(length))
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint") from None
    except (struct.error, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    if not isinstance(header, dict):
        raise InputError(f"{path}: not a safetensors file (its header is no mapping)")
    return dict(header.get("__metadata__", {}))


def file_digest(path: Path) -> str:
    """Return the SHA-256 digest of a file, hex; computed once a process and file state."""
    status = path.stat()
    return _digest_of_state(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=4096)
def _digest_of_state(path: Path, mtime_ns: int, size: int, inode: int) -> str:  # noqa: ARG001 (they are the cache key)
    """Hash a file; the arguments after `path` make a changed file a different cache entry."""
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(root: Path, checkpoint: Checkpoint) -> Path:
    """Return the file of `checkpoint` after checking that its bytes have the recorded digest.

    Raises:
        InputError: the file is missing or its digest differs.
    """
    path = root / checkpoint.path
    if not path.exists():
        raise InputError(f"{checkpoint.path}: no such checkpoint; run `dvc pull` or `stockpot run`")
    found = file_digest(path)
    if found != checkpoint.digest:
        raise InputError(
            f"{checkpoint.path}: digest is {found[:12]}, expected {checkpoint.digest[:12]}; "
            "the file was changed or damaged: delete it and run again"
        )
    return path
