"""IDX files, the format of MNIST: a header, then bytes; gzipped or plain."""

from __future__ import annotations

import gzip
import io
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_File = gzip.GzipFile | io.BufferedReader

_UNSIGNED_BYTES = 0x08  # the third byte of the file: its data type


def find_idx(folder: Path, name: str) -> Path | None:
    """Return the file `name` or `name`.gz of a folder; None if it has neither."""
    paths = (folder / name, folder / f"{name}.gz")
    return next((path for path in paths if path.is_file()), None)


def idx_shape(path: Path) -> tuple[int, ...]:
    """Read the shape of an IDX file from its header.

    Raises:
        InputError: it is not an IDX file of unsigned bytes.
    """
    with _opened(path) as file:
        return _shape(path, file)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes; any shape.

    Raises:
        InputError: it is not such a file, or its size does not match its header.
    """
    import numpy as np

    with _opened(path) as file:
        shape = _shape(path, file)
        content = _read(path, file)
    if len(content) != math.prod(shape):
        raise InputError(
            f"{path}: must have {math.prod(shape)} bytes after its header, got {len(content)}"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _opened(path: Path) -> _File:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _read(path: Path, file: _File, size: int = -1) -> bytes:
    try:
        return file.read(size)
    except (OSError, EOFError) as error:  # gzip's: no such format, a wrong checksum, a cut end
        raise InputError(f"{path}: must be a complete gzip file, got {error}") from error


def _shape(path: Path, file: _File) -> tuple[int, ...]:
    """Read the header: two zeros, the type, the number of dimensions, then each as 32 bits."""
    start = _read(path, file, 4)
    if len(start) < 4 or start[:3] != bytes([0, 0, _UNSIGNED_BYTES]):
        raise InputError(f"{path}: must be an IDX file of unsigned bytes, got {start.hex()!r}")
    sizes = _read(path, file, 4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise InputError(f"{path}: must have {start[3]} dimensions, got the end of the file")
    return struct.unpack(f">{start[3]}I", sizes)
