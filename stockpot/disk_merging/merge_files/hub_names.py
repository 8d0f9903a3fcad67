"""Names of models on the Hugging Face Hub in a merge file, with the commits that they stand for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TypeVar

from stockpot.disk_merging.merge_files.inner_merges import inner_merges
from stockpot.disk_merging.merge_files.merge_file import (
    LayerSource,
    MergeFile,
    Nested,
    NestedEntry,
    as_entry,
)
from stockpot.merging.registry import METHODS
from stockpot.storage.hub import is_remote, with_commit
from stockpot.storage.local_paths import located

Entry = TypeVar("Entry", NestedEntry, LayerSource, Nested)


def with_commits(file: MergeFile, folder: Path) -> MergeFile:
    """Replace the revisions of models on the Hub by commits, so that the merge can be rebuilt.

    Models that are not in the local cache are downloaded.

    Args:
        file: the merge; paths that exist are left as they are.
        folder: that of the merge file.

    Raises:
        InputError: a model cannot be downloaded, or the method does not exist.
    """
    if not any(is_remote(folder, part) for name in _names(file) for part in name.split("+")):
        return file
    METHODS[file.method]  # an unknown one is an error, before any download
    changed = {
        "models": file.models and [_entry(folder, entry) for entry in file.models],
        "layers": [
            part.model_copy(update={"models": [_entry(folder, one) for one in part.models]})
            for part in file.layers
        ],
        "base": file.base and _entry(folder, file.base),
        "config_from": file.config_from and _entry(folder, file.config_from),
        "tokenizer": file.tokenizer and file.tokenizer.renamed(partial(_name, folder)),
    }
    return file.model_copy(update=changed)


def _names(file: MergeFile) -> list[str]:
    """List the models that a merge names, those of merges within it included."""
    layers = [source for part in file.layers for source in part.models]
    others = [name for name in (file.base, file.config_from) if isinstance(name, str)]
    own = [entry.path for entry in (*file.entries, *layers) if entry.merge is None]
    inner = [entry.merge for entry in inner_merges(file).values() if entry.merge is not None]
    of_tokens = file.tokenizer.named_models if file.tokenizer else []
    return [*own, *others, *of_tokens, *(name for merge in inner for name in _names(merge))]


def _entry(folder: Path, entry: str | Entry) -> str | Entry:
    if isinstance(entry, str):
        return _name(folder, entry)
    if entry.merge is not None:
        return entry.model_copy(update={"merge": with_commits(entry.merge, folder)})
    return entry.model_copy(update={"path": _name(folder, as_entry(entry).path)})


def _name(folder: Path, name: str) -> str:
    if located(folder, name).exists():
        return name
    return "+".join(with_commit(folder, part) for part in name.split("+"))
