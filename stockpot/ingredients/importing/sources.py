"""The checkpoints to import: found by patterns of paths, and named."""

from __future__ import annotations

import glob
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stockpot.errors import InputError
from stockpot.ingredients.importing.hyperparameters import Values, find_hyperparameters
from stockpot.storage.hub import is_remote, model_path
from stockpot.storage.weights.model_files import (
    index_of,
    is_index,
    locate_weights,
    shard_suffix,
)

PREFIX = "imported-"

_ADAPTER = "adapter_config.json"
_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_WEIGHTS = {".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar"}
_COMMON_STEMS = {"model", "pytorch_model", "adapter_model"}  # the folder's name is more specific
_LONGEST = 40  # characters of a name, without the prefix and the suffix that makes it unique


@dataclass(frozen=True, slots=True)
class ImportSource:
    """A checkpoint of the user that was found but not opened yet.

    Attributes:
        name: name of the model in this experiment.
        path: the file or folder.
        shown: the path in messages: relative to the project's folder if it is inside.
        files: the files that determine the weights; empty if they cannot be determined.
        hyperparameters: of its training, as far as a file next to it has them.
        is_adapter: whether it is an adapter of the base.
    """

    name: str
    path: Path
    shown: str
    files: tuple[Path, ...]
    hyperparameters: Values
    is_adapter: bool


def find_sources(root: Path, patterns: Sequence[str]) -> list[ImportSource]:
    """Find checkpoints by patterns of paths, each once, in the order of patterns and paths.

    Args:
        root: the project's folder, from which relative patterns start.
        patterns: shell patterns, in which `**` matches any folders; or `owner/name[@revision]` on
            the Hugging Face Hub.

    Raises:
        InputError: a pattern matches nothing, or a file of hyperparameters is damaged.
    """
    names: dict[Path, str] = {}
    for pattern in patterns:
        if is_remote(root, pattern):
            own = pattern.partition("@")[0].partition("/")[2]
            names.setdefault(_on_hub(root, pattern), f"{PREFIX}{own[:_LONGEST]}")
            continue
        found = _matches(root, pattern)
        if not found:
            raise InputError(
                f"sweep.import: must be paths or patterns of checkpoints, got {pattern!r}, "
                f"which matches nothing in {root}"
            )
        for path in found:
            names.setdefault(path, _name(str(root / pattern), path))
    shared = {name for name, count in Counter(names.values()).items() if count > 1}
    sources = [source_at(root, path, name) for path, name in names.items()]
    return [_with_unique_name(source) if source.name in shared else source for source in sources]


def source_at(root: Path, path: Path, name: str) -> ImportSource:
    """Describe the checkpoint at a path.

    Raises:
        InputError: the path does not exist, or a file of hyperparameters is damaged.
    """
    shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    if not path.exists():
        raise InputError(f"{shown}: no such file or folder")
    files, hyperparameters = _files(path), find_hyperparameters(path)
    return ImportSource(name, path, shown, files, hyperparameters, _is_adapter(path))


def _on_hub(root: Path, name: str) -> Path:
    try:
        return model_path(root, name)
    except InputError as error:
        raise InputError(f"sweep.import: {error}") from error


def _matches(root: Path, pattern: str) -> list[Path]:
    """Return the paths that match a pattern; wildcards match only files that may be weights."""
    full = str(root / Path(pattern).expanduser())
    paths = [Path(found) for found in sorted(glob.glob(full, recursive=True))]  # noqa: PTH207 (as a shell: no hidden files)
    if glob.has_magic(full):
        paths = [path for path in paths if _may_be_weights(path)]
    return list(dict.fromkeys(_whole(path) for path in paths))


def _may_be_weights(path: Path) -> bool:
    return path.is_dir() or path.suffix in _WEIGHTS or is_index(path)


def _whole(path: Path) -> Path:
    """Return a model's folder if the path is one of its shards or adapter files; else the path."""
    folder = path.parent
    index = index_of(folder)
    is_part = is_index(path) or (index is not None and path.suffix == shard_suffix(index))
    return folder if is_part or (path.name in _ADAPTER_WEIGHTS and _is_adapter(folder)) else path


def _is_adapter(path: Path) -> bool:
    return (path / _ADAPTER).is_file()


def _files(path: Path) -> tuple[Path, ...]:
    """Return the files whose content determines the weights; empty if there are no such files."""
    if _is_adapter(path):
        found = [path / name for name in _ADAPTER_WEIGHTS if (path / name).is_file()][:1]
        files = (path / _ADAPTER, *found)
    else:
        index = index_of(path)
        try:
            files = (*([index] if index else []), *locate_weights(path))
        except InputError:  # reading its header reports the reason
            return ()
    return files if all(file.is_file() for file in files) else ()


def _name(pattern: str, path: Path) -> str:
    """Name a checkpoint by the parts of its path that wildcards match, or else by its stem."""
    wanted, parts = Path(pattern).parts, [*path.parts]
    if not path.is_dir():
        parts[-1] = path.stem
    magic = [number for number, part in enumerate(wanted) if glob.has_magic(part)]
    if not magic:
        chosen = [parts[-2] if parts[-1] in _COMMON_STEMS else parts[-1]]
    elif "**" in wanted:
        chosen = parts[magic[0] :]
    else:
        chosen = [parts[number] for number in magic if number < len(parts)]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(chosen)).strip("-._")
    return f"{PREFIX}{name[:_LONGEST]}"


def _with_unique_name(source: ImportSource) -> ImportSource:
    mark = hashlib.sha256(source.shown.encode()).hexdigest()[:6]
    return replace(source, name=f"{source.name}-{mark}")
