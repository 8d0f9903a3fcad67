"""Where the files of a workload are, and what is in them."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any


def project_path(text: str) -> Path:
    """Return a path that params.yaml names: relative ones are relative to the project's folder.

    Every process of a run has that folder in its environment; elsewhere, e.g. in a notebook, it is
    the working directory.
    """
    return Path(os.environ.get("STOCKPOT_ROOT", ".")) / Path(text).expanduser()


def digest_of(**parts: Any) -> str:
    """Return the SHA-256 (hex) of JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file; read once a process, unless its size or time change."""
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns)


@cache
def _digest(path: Path, size: int, changed: int) -> str:  # noqa: ARG001 (they tell files apart)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
