"""Which commit of the project a result was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path


def describe_commit(root: Path) -> str:
    """Return the commit of the project, `-dirty` if files differ from it; empty without git."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return found.stdout.strip()
