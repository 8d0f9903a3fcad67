"""Opening the models that a merge file names."""

from __future__ import annotations

from pathlib import Path

from stockpot.disk_merging.merge_files.model_paths import model_and_adapter
from stockpot.errors import InputError
from stockpot.storage.weights.adapters import is_adapter
from stockpot.storage.weights.model_files import is_weights
from stockpot.storage.weights.opening import open_source
from stockpot.storage.weights.sources import Source


def open_named(folder: Path, name: str, base: Source | None = None) -> Source:
    """Open a model, an adapter on the base, or `model+adapter`.

    Args:
        folder: of the merge file.
        name: from a merge file.
        base: the model that an adapter is added to.

    Raises:
        InputError: there is no such model, or what follows the `+` is no adapter.
    """
    path, adapter = model_and_adapter(folder, name)
    if adapter is None:
        return open_source(path, base)
    if not is_adapter(adapter):
        raise InputError(f"{name}: the part after '+' must be the folder of a LoRA adapter")
    return open_source(adapter, open_source(path))


def open_or_empty(folder: Path, name: str, own: Path, base: Source | None) -> Source:
    """Open a model, or a folder with its configuration alone as a model without tensors.

    Args:
        folder: of the merge file.
        name: from a merge file.
        own: the model's folder.
        base: the model that an adapter is added to.

    Raises:
        InputError: its weights cannot be read.
    """
    if any(is_weights(file.name) for file in own.rglob("*")):
        return open_named(folder, name, base)
    return Source(own, (), {})
