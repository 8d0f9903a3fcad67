"""Names of models on the Hugging Face Hub, as far as files on this disk tell."""

from __future__ import annotations

import re
from pathlib import Path

from stockpot.errors import InputError
from stockpot.storage.weights.hub_layout import cached_name, is_repository
from stockpot.storage.weights.model_config import read_config

_ALIKE = re.compile(r"checkpoint-\d+|(model|pytorch_model|adapter_model)\.(safetensors|bin)")


def stated_name(folder: Path | None) -> str | None:
    """Return the repository that a config.json states as its origin; None without one."""
    try:
        return repository(read_config(folder).get("_name_or_path"))
    except InputError:
        return None


def repository(name: object) -> str | None:
    """Return a name if it has the form of a repository and is not a path on this disk."""
    if not isinstance(name, str) or not is_repository(name):
        return None
    return None if Path(name).exists() else name


def shown_name(path: Path) -> str:
    """Return the name of a model in messages: on the Hub if it is in a cache, else the path's.

    Names that writers give, such as checkpoint-500, are shown with the folder above them.
    """
    is_alike = _ALIKE.fullmatch(path.name)
    return cached_name(path) or (f"{path.parent.name}/{path.name}" if is_alike else path.name)
