"""JSON files next to weights, and config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stockpot.errors import InputError

CONFIG = "config.json"


def read_config(folder: Path | None) -> dict[str, Any]:
    """Read a model's config.json; empty without one.

    Raises:
        InputError: it is not readable.
    """
    path = None if folder is None else folder / CONFIG
    return read_json_mapping(path) if path is not None and path.is_file() else {}


def read_json_mapping(path: Path) -> dict[str, Any]:
    """Read a JSON file whose content is a mapping.

    Raises:
        InputError: it is missing, or its content is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping, got {type(content).__name__}")
    return content
