"""Names of models on the Hugging Face Hub, as far as files on this disk tell.

Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache, for the cache's layout.
"""

from __future__ import annotations

import re
from pathlib import Path

from stockpot.errors import InputError
from stockpot.storage.weights.model_config import read_config

_PART = r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9_])?"
_ALIKE = re.compile(r"checkpoint-\d+|(model|pytorch_model|adapter_model)\.(safetensors|bin)")
_LONGEST = 96  # characters of a name on the Hub
_REPOSITORY = re.compile(rf"{_PART}/{_PART}", re.ASCII)  # organisation/name


def cached_name(path: Path) -> str | None:
    """Return the repository that a path in a Hugging Face cache belongs to; None elsewhere."""
    home = _cache_folder(path)
    return None if home is None else home.name.removeprefix("models--").replace("--", "/")


def cache_blobs(path: Path) -> Path | None:
    """Return the folder of the files that a snapshot in a cache links to; None elsewhere."""
    home = _cache_folder(path)
    return None if home is None else home / "blobs"


def stated_name(folder: Path | None) -> str | None:
    """Return the repository that a config.json states as its origin; None without one."""
    try:
        return repository(read_config(folder).get("_name_or_path"))
    except InputError:
        return None


def repository(name: object) -> str | None:
    """Return a name if it has the form of a repository and is not a path on this disk."""
    if not isinstance(name, str) or len(name) > _LONGEST or not _REPOSITORY.fullmatch(name):
        return None
    return None if Path(name).exists() else name


def shown_name(path: Path) -> str:
    """Return the name of a model in messages: on the Hub if it is in a cache, else the path's.

    Names that writers give, such as checkpoint-500, are shown with the folder above them.
    """
    is_alike = _ALIKE.fullmatch(path.name)
    return cached_name(path) or (f"{path.parent.name}/{path.name}" if is_alike else path.name)


def _cache_folder(path: Path) -> Path | None:
    """Return the folder `models--organisation--name` of a snapshot, without links."""
    whole, real = path.absolute(), path.resolve()
    for part in (whole, *whole.parents, real, *real.parents):
        if part.parent.name == "snapshots" and part.parent.parent.name.startswith("models--"):
            return part.parent.parent.resolve()
    return None
