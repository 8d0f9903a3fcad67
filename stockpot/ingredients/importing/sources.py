"""Which checkpoints are imported: patterns of paths, and what each one is called here."""

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
from stockpot.storage.weights.model_files import INDEX, locate_weights

PREFIX = "imported-"

_ADAPTER = "adapter_config.json"
_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_WEIGHTS = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"}
_COMMON_STEMS = {"model", "pytorch_model", "adapter_model"}  # the folder's name says more
_LONGEST = 40  # characters of a name, without prefix and what tells it from an equal one


@dataclass(frozen=True, slots=True)
class ImportSource:
    """One checkpoint of the user's, found and not yet opened.

    Attributes:
        name: what the model is called here.
        path: the file or folder.
        shown: the path for people: relative to the project's folder where it is in there.
        files: those that decide on the weights; none where it is not clear which.
        hyperparameters: how it was trained, as far as a file beside it says so.
        is_adapter: whether it is to be put on the base.
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
        root: the project's folder, which relative patterns start from.
        patterns: as of a shell, `**` for any folders.

    Raises:
        InputError: a pattern fits nothing, or hyperparameters beside a checkpoint are damaged.
    """
    names: dict[Path, str] = {}
    for pattern in patterns:
        found = _matches(root, pattern)
        if not found:
            raise InputError(
                f"sweep.import: must be paths of checkpoints or patterns of some, got {pattern!r}, "
                f"which nothing in {root} fits"
            )
        for path in found:
            names.setdefault(path, _name(str(root / pattern), path))
    shared = {name for name, count in Counter(names.values()).items() if count > 1}
    sources = [source_at(root, path, name) for path, name in names.items()]
    return [_told_apart(source) if source.name in shared else source for source in sources]


def source_at(root: Path, path: Path, name: str) -> ImportSource:
    """Describe the checkpoint at a path.

    Raises:
        InputError: there is nothing, or hyperparameters beside it are damaged.
    """
    shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    if not path.exists():
        raise InputError(f"{shown}: no such file or folder")
    try:
        files = _files(path)
    except InputError:  # the look at its header says why
        files = ()
    return ImportSource(
        name=name,
        path=path,
        shown=shown,
        files=files,
        hyperparameters=find_hyperparameters(path),
        is_adapter=_is_adapter(path),
    )


def _matches(root: Path, pattern: str) -> list[Path]:
    """Return what fits a pattern; files that are no weights are passed over by wildcards."""
    full = str(root / Path(pattern).expanduser())
    paths = [Path(found) for found in sorted(glob.glob(full, recursive=True))]  # noqa: PTH207 (as a shell: no hidden files)
    if glob.has_magic(full):
        paths = [path for path in paths if _may_be_weights(path)]
    return list(dict.fromkeys(_whole(path) for path in paths))


def _may_be_weights(path: Path) -> bool:
    return path.is_dir() or path.suffix in _WEIGHTS or path.name == INDEX


def _whole(path: Path) -> Path:
    """Return the folder whose model a file is a part of: a shard, an adapter; else the file."""
    folder = path.parent
    is_part = path.name == INDEX or (path.suffix == ".safetensors" and (folder / INDEX).is_file())
    return folder if is_part or (path.name in _ADAPTER_WEIGHTS and _is_adapter(folder)) else path


def _is_adapter(path: Path) -> bool:
    return (path / _ADAPTER).is_file()


def _files(path: Path) -> tuple[Path, ...]:
    """Return the files whose content decides on the weights.

    Raises:
        InputError: it is not clear which file of a folder has them, or one is missing.
    """
    if _is_adapter(path):
        found = [path / name for name in _ADAPTER_WEIGHTS if (path / name).is_file()][:1]
        files = (path / _ADAPTER, *found)
    else:
        index = (path / INDEX,) if (path / INDEX).is_file() else ()
        files = (*index, *locate_weights(path))
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: no such file")
    return files


def _name(pattern: str, path: Path) -> str:
    """Return the parts of a path that wildcards stand for, or its stem: the same in every run."""
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


def _told_apart(source: ImportSource) -> ImportSource:
    mark = hashlib.sha256(source.shown.encode()).hexdigest()[:6]
    return replace(source, name=f"{source.name}-{mark}")
