"""Which checkpoints of a project have been champions: they are kept, as one can be put back."""

from __future__ import annotations

import json
from pathlib import Path

from stockpot.storage.atomic_files import write_text


def remember_champion(root: Path, checkpoint: str) -> None:
    """Note that a model of this project has become champion.

    Args:
        root: the project root.
        checkpoint: its file, relative to the root.
    """
    known = _read(root)
    if checkpoint not in known:
        write_text(_file(root), json.dumps([*known, checkpoint], indent=2) + "\n")


def champion_files(root: Path) -> list[Path]:
    """List the checkpoints of all that have been champion, from this project."""
    return [root / checkpoint for checkpoint in _read(root)]


def _file(root: Path) -> Path:
    return root / ".stockpot" / "champions.json"


def _read(root: Path) -> list[str]:
    try:
        known: list[str] = json.loads(_file(root).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return known
