"""Names of models on the Hugging Face Hub in a merge file, with the commits that they stand for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TypeVar

from stockpot.disk_merging.merge_file import MergeFile
from stockpot.disk_merging.model_entry import ModelEntry
from stockpot.merging.registry import METHODS
from stockpot.storage.hub import is_remote, with_commit
from stockpot.storage.local_paths import located

Entry = TypeVar("Entry", bound=ModelEntry)


def with_commits(file: MergeFile, folder: Path) -> MergeFile:
    """Replace the revisions of models on the Hub by commits, so that the merge can be rebuilt.

    Models that are not in the local cache are downloaded.

    Args:
        file: the merge; paths that exist are left as they are.
        folder: that of the merge file.

    Raises:
        InputError: a model cannot be downloaded, or the method does not exist.
    """
    layers = [source for part in file.layers for source in part.models]
    listed = [*file.entries, *layers]
    of_tokens = file.tokenizer.named_models if file.tokenizer else []
    names = [*(entry.path for entry in listed), file.base, file.config_from, *of_tokens]
    if not any(is_remote(folder, part) for name in names if name for part in name.split("+")):
        return file
    METHODS[file.method]  # an unknown one is an error, before any download
    changed = {
        "models": file.models and [_entry(folder, entry) for entry in file.models],
        "layers": [
            part.model_copy(update={"models": [_entry(folder, one) for one in part.models]})
            for part in file.layers
        ],
        "base": file.base and _name(folder, file.base),
        "config_from": file.config_from and _name(folder, file.config_from),
        "tokenizer": file.tokenizer and file.tokenizer.renamed(partial(_name, folder)),
    }
    return file.model_copy(update=changed)


def _entry(folder: Path, entry: str | Entry) -> str | Entry:
    if isinstance(entry, str):
        return _name(folder, entry)
    return entry.model_copy(update={"path": _name(folder, entry.path)})


def _name(folder: Path, name: str) -> str:
    if located(folder, name).exists():
        return name
    return "+".join(with_commit(folder, part) for part in name.split("+"))
