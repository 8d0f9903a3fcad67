"""The chat template of a merged model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stockpot.errors import InputError
from stockpot.storage.atomic_files import write_text
from stockpot.storage.local_paths import located
from stockpot.storage.weights.model_config import read_json_mapping
from stockpot.storage.weights.sources import Source

TEMPLATE = "chat_template.jinja"
_CONFIG = "tokenizer_config.json"
_FIELD = "chat_template"


def chat_template_of(value: str, folder: Path, models: Sequence[Source]) -> str | None:
    """Return the text of a chat template.

    Args:
        value: `auto` for the one that most models have; or a text, or the path of a file.
        folder: to which the path is relative.
        models: that are merged; of equally frequent templates the first one's is chosen.

    Returns:
        None for `auto` if no model has one.

    Raises:
        InputError: it is none of these, or a file cannot be read.
    """
    if value == "auto":
        folders = dict.fromkeys((model.path, model.folder) for model in models)
        found = [one for pair in folders for one in [_first_template(*pair)] if one is not None]
        counted = Counter(template.strip() for template in found)
        return counted.most_common(1)[0][0] if counted else None
    if "{" in value:
        return value
    path = located(folder, value)
    if not path.is_file():
        raise InputError(
            f"chat_template: must be auto, a text in Jinja with {{{{ }}}} or {{% %}}, or the path "
            f"of a file with one, got {value!r}"
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"chat_template: {path}: not readable as text ({error})") from error


def write_chat_template(template: str, folder: Path) -> None:
    """Write a chat template where both older and newer versions of transformers look for it."""
    write_text(folder / TEMPLATE, template)
    path = folder / _CONFIG
    if path.is_file():
        content = read_json_mapping(path) | {_FIELD: template}
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _first_template(*folders: Path | None) -> str | None:
    """Return the chat template of the first folder that has one."""
    found = (_template_in(folder) for folder in folders if folder is not None and folder.is_dir())
    return next((template for template in found if template), None)


def _template_in(folder: Path) -> str | None:
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    path = folder / _CONFIG
    field: Any = read_json_mapping(path).get(_FIELD) if path.is_file() else None
    if isinstance(field, list):  # several templates with names
        named = {one.get("name"): one.get("template") for one in field if isinstance(one, dict)}
        field = named.get("default")
    return field if isinstance(field, str) else None
