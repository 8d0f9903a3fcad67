"""JSON files next to weights, and config.json."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from stockpot.errors import InputError

CONFIG = "config.json"
_CONSTANTS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_MAX_DEPTH = 50  # far more than models have, far less than Python can recurse


def read_config(folder: Path | None) -> dict[str, Any]:
    """Read a model's config.json; empty without one.

    Raises:
        InputError: it is not readable, or nested too deeply.
    """
    path = None if folder is None else folder / CONFIG
    if path is None or not path.is_file():
        return {}
    config = read_json_mapping(path)
    inner: list[Any] = [config]
    for _ in range(_MAX_DEPTH):
        nested = [each for each in inner if isinstance(each, dict | list)]
        inner = [v for each in nested for v in (each.values() if isinstance(each, dict) else each)]
    if inner:
        raise InputError(
            f"{path}: nested more than {_MAX_DEPTH} times; not a model's configuration"
        )
    return config


def read_json_mapping(path: Path) -> dict[str, Any]:
    """Read a JSON file whose content is a mapping.

    Raises:
        InputError: it is missing, or its content is something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        # One object for each: NaN is not equal to another NaN.
        content = json.loads(text, parse_constant=_CONSTANTS.__getitem__)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping, got {type(content).__name__}")
    return content
