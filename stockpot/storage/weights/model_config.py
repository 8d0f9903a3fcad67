"""The config.json beside a model's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stockpot.errors import InputError


def read_config(folder: Path | None) -> dict[str, Any]:
    """Read a model's config.json; empty if it has none.

    Raises:
        InputError: it is not readable.
    """
    path = None if folder is None else folder / "config.json"
    if path is None or not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping, got {type(content).__name__}")
    return content
