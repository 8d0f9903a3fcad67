"""Headers of safetensors files as JSON, read without trust and without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from stockpot.errors import InputError


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of a safetensors file that is missing, unreadable or damaged into InputError."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole safetensors file ({error})") from error


def read_json_header(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """Read a header after the format's own library has checked it against the size of the file.

    Returns:
        The entry of each tensor and the metadata, both by name; the position of the first byte of
        data.

    Raises:
        InputError: the file is missing, truncated, or of another format.
    """
    with reading(path), path.open("rb") as file, safe_open(path, framework="numpy"):
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", None) or {}
    return header, metadata, 8 + length
