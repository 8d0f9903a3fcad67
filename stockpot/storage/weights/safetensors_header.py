"""Headers of safetensors files as JSON, read without trust and without torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from stockpot.errors import InputError

_MAX_HEADER_BYTES = 100_000_000  # the limit of the format


def read_json_header(path: Path) -> tuple[dict[str, Any], dict[str, str], int, int]:
    """Read a header.

    Returns:
        The entry of each tensor and the metadata, both by name; the position of the first byte of
        data, and the size of the file.

    Raises:
        InputError: the file is missing, shorter than its header, or of another format.
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
    return header, metadata, 8 + len(text), size


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
