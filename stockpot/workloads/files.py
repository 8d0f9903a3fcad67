"""Paths of a workload's files, and digests of what describes a dataset."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def project_path(text: str) -> Path:
    """Return a path of params.yaml; relative paths start at the project's folder.

    Every process of a run has that folder in its environment; elsewhere, e.g. in a notebook, the
    working directory is used.
    """
    return Path(os.environ.get("STOCKPOT_ROOT", ".")) / Path(text).expanduser()


def digest_of(**parts: Any) -> str:
    """Return the SHA-256 (hex) of JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
