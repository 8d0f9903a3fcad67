"""The folders of a model that hold weights of their own: modules and components, by their lists.

sentence-transformers lists the modules of a model in modules.json, diffusers the components of a
pipeline in model_index.json. A tensor of such a folder is named `2_Dense/linear.weight`; those of
the model's own folder have no prefix. This module imports no torch.
"""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

from stockpot.errors import InputError
from stockpot.storage.weights.model_files import DIFFUSERS_STEM, is_weights, locate_weights

MODULES = "modules.json"
PIPELINE = "model_index.json"


def weight_folders(folder: Path) -> list[str]:
    """List the folders of a model that hold weights, relative to it; "" is its own folder.

    Raises:
        InputError: a list of modules or components is damaged, names a folder outside the model,
            or a component of a pipeline is missing.
    """
    if (folder / MODULES).is_file():
        listed = _modules(folder)
    elif (folder / PIPELINE).is_file():
        listed = _components(folder)
    else:
        return [""]
    found = [inner for own in listed for inner in _with_weights(folder, own)]
    return list(dict.fromkeys(found)) or [""]


def all_weights(path: Path) -> list[Path]:
    """List the weight files of a model in all of its folders; `path` itself if it is a file.

    Raises:
        InputError: as for `weight_folders`, or a folder has no weights that can be read.
    """
    return [file for folder in weight_folders(path) for file in locate_weights(path / folder)]


def stem_of(file: Path) -> str:
    """Return the name that a folder's weights have in its library, without shard and suffix."""
    return DIFFUSERS_STEM if file.name.startswith(DIFFUSERS_STEM) else "model"


def _modules(folder: Path) -> list[str]:
    """Read the folders that a modules.json lists; that of a module without files may be missing."""
    modules = _read(folder / MODULES)
    if not isinstance(modules, list) or not all(
        isinstance(module, dict) and isinstance(module.get("path"), str) for module in modules
    ):
        raise InputError(
            f"{folder / MODULES}: must be a list of modules, each with a path, as "
            "sentence-transformers has it; another file needs another name"
        )
    return [_inside(folder / MODULES, module["path"]) for module in modules]


def _components(folder: Path) -> list[str]:
    """Read the folders that a model_index.json lists; a component that is null has none."""
    index = _read(folder / PIPELINE)
    if not isinstance(index, dict):
        raise InputError(f"{folder / PIPELINE}: must be a mapping of components")
    listed = [
        _inside(folder / PIPELINE, name)
        for name, kind in index.items()
        if isinstance(kind, list) and len(kind) == 2 and all(isinstance(part, str) for part in kind)
    ]
    if missing := [name for name in listed if not _is_folder(folder / name)]:
        raise InputError(
            f"{folder / PIPELINE}: names {missing[0]!r}, and the model has no such folder; "
            "download the model again"
        )
    return listed


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # the name is too long
        return False


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error


def _inside(index: Path, name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise InputError(f"{index}: names {name!r}, which is not a folder of the model")
    return "" if str(path) == "." else str(path)


def _with_weights(folder: Path, own: str) -> list[str]:
    """Return a listed folder and, of one that is not the model's own, the folders in it."""
    found = []
    for inner, folders, files in os.walk(folder / own):
        folders.sort()
        if not own:
            folders.clear()
        if any(is_weights(name) for name in files):
            relative = Path(inner).relative_to(folder).as_posix()
            found.append("" if relative == "." else relative)
    return found
