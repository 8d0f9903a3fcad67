"""The files that hold a model's weights, found by their names; no weight is read.

This module imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from stockpot.errors import InputError
from stockpot.storage.digests import digest_in_background

INDEX = "model.safetensors.index.json"

_NAMES = ("model.safetensors", "pytorch_model.bin")


def locate_weights(path: Path) -> tuple[Path, ...]:
    """Return the weight files of a model: `path` itself, or those in the folder.

    Raises:
        InputError: there are none, they are ambiguous, or the index of shards is damaged.
    """
    if not path.is_dir():
        return (path,)
    if (path / INDEX).is_file():
        return tuple(path / shard for shard in sorted(set(read_index(path / INDEX).values())))
    for name in _NAMES:
        if (path / name).is_file():
            return (path / name,)
    found = sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return (found[0],)
    listed = [file.name for file in found] or "none"
    raise InputError(
        f"{path}: expected model.safetensors, {INDEX} or pytorch_model.bin, or one other "
        f"safetensors file; found {listed}"
    )


def read_index(index: Path) -> dict[str, str]:
    """Read the shard of each tensor.

    Raises:
        InputError: the index is damaged, or names a file outside its folder.
    """
    try:
        shard_of: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(shard_of.values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{index}: not an index of shards ({error})") from error
    for shard in shards:
        if not _is_file_name(shard):
            raise InputError(f"{index}: names {shard!r}, which is not a file of its folder")
    return shard_of


def digest_ahead(models: Iterable[Path]) -> None:
    """Start to digest the weights of models; unreadable ones are reported when they are opened."""
    for path in models:
        with suppress(InputError, OSError):
            digest_in_background(locate_weights(path))


def _is_file_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and Path(name).name == name
        and name not in {"", ".", ".."}
        and "\0" not in name
    )
