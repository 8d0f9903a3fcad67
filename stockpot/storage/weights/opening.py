"""Open models on disk by path: whole models, and adapters on their base."""

from __future__ import annotations

from pathlib import Path

from stockpot.errors import InputError
from stockpot.storage.hub import model_path
from stockpot.storage.local_paths import located
from stockpot.storage.weights.adapted import put_on_base
from stockpot.storage.weights.adapter_config import CONFIG
from stockpot.storage.weights.adapters import Adapter, is_adapter, open_adapter
from stockpot.storage.weights.components import weight_folders
from stockpot.storage.weights.quantized.dequantized import dequantized
from stockpot.storage.weights.sources import Source, open_files

PATCH = "stockpot.patch"
"""The key of the metadata of files of weight signatures, which `stockpot merge` writes."""


def open_source(path: Path, base: Source | None = None) -> Source:
    """Open a model: a safetensors file, a pickle of weights, a folder with either, or an adapter.

    Only headers are read, except that a pickle is loaded whole, with `weights_only`. The weights of
    a quantised model are dequantised when they are read.

    Args:
        path: the file or folder.
        base: of an adapter; None for the base that its configuration names, on this disk or on the
            Hugging Face Hub. Ignored for whole models.

    Raises:
        InputError: there are no weights, they are damaged, not safe to load or quantised in a
            format that is not dequantised here, or the adapter does not fit the base.
    """
    if is_adapter(path):
        if listed := [folder for folder in weight_folders(path) if folder]:
            raise InputError(
                f"{path}: is an adapter, and its module {listed[0]!r} has weights of its own; "
                "merge the adapter into its base first, with the library that saved it"
            )
        adapter = open_adapter(path)
        return put_on_base(adapter, base or _own_base(adapter))
    return _open_model(path)


def _open_model(path: Path) -> Source:
    source = open_files(path)
    factors = [name for name in source.tensors if ".lora_" in name]
    if factors:
        raise InputError(
            f"{path}: has LoRA factors ({factors[0]!r}), which cannot be merged one by one; name "
            f"the adapter's folder, with {CONFIG}"
        )
    if PATCH in source.metadata:
        raise InputError(
            f"{path}: is a patch of weight signatures, not a model; list it with role: patch"
        )
    return dequantized(source)


def _own_base(adapter: Adapter) -> Source:
    name, revision = adapter.config.base, adapter.config.revision
    where = f"{adapter.path}: is an adapter, and its base_model_name_or_path is {name!r}, which is "
    advice = "name its base (`base` in a merge file, --base of commands)"
    try:
        if revision and not located(Path(), name).exists():
            name = f"{name}@{revision}"
        path = model_path(Path(), name)
    except InputError as error:
        raise InputError(f"{where}not on this disk; {advice}, or get it: {error}") from error
    if not name or not path.exists() or is_adapter(path):
        raise InputError(f"{where}not a model on this disk; {advice}")
    return _open_model(path)
