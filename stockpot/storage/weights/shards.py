"""The files that weights are written to: which tensor is in which, and their index."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from stockpot.storage.weights.safetensors_format import build_header

TensorType = tuple[torch.dtype, tuple[int, ...]]

ONE_FOLDER: Mapping[str, str] = MappingProxyType({"": "model"})
"""The folders with weights of most models: their own, with names as transformers has them."""

_NUMBERED = re.compile(r"(-\d+-of-\d+)?\.safetensors$")


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of the output.

    Attributes:
        file_name: its name in the folder; with the folder in which a component has its weights.
        tensors: dtype and shape of each tensor, by name.
    """

    file_name: str
    tensors: Mapping[str, TensorType]

    @property
    def prefix(self) -> str:
        """The part of the tensors' names that the file omits: its folder."""
        folder, slash, _ = self.file_name.rpartition("/")
        return folder + slash

    def head(self, metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int]]:
        """Return the bytes up to the data, and the position in the file of each tensor."""
        stored = {name.removeprefix(self.prefix): type_ for name, type_ in self.tensors.items()}
        head, starts = build_header(stored, metadata)
        return head, {self.prefix + name: start for name, start in starts.items()}

    @property
    def num_bytes(self) -> int:
        """The size of its tensors."""
        return sum(math.prod(shape) * dtype.itemsize for dtype, shape in self.tensors.values())

    @property
    def num_elements(self) -> int:
        """The number of elements of its tensors."""
        return sum(math.prod(shape) for _, shape in self.tensors.values())


def lay_out(
    tensors: Mapping[str, TensorType], components: Mapping[str, str], max_bytes: float
) -> list[Shard]:
    """Return the files for tensors, folder by folder.

    Args:
        tensors: dtype and shape of each tensor, in the order in which they are written.
        components: the folders with weights, "" for the model's own, each with the name of its
            files without number and suffix; tensors of a folder are named `folder/name`.
        max_bytes: the size limit of a file, unless a single tensor exceeds it.
    """
    return [
        shard
        for folder, own in _by_folder(tensors, components).items()
        for shard in _in_folder(
            f"{folder}/" if folder else "", components.get(folder, "model"), own, max_bytes
        )
    ]


def indexes(shards: Sequence[Shard]) -> dict[str, dict[str, Any]]:
    """Return the index of each folder with several files, by its path in the model."""
    groups: dict[str, list[Shard]] = {}
    for shard in shards:
        groups.setdefault(_NUMBERED.sub("", shard.file_name), []).append(shard)
    return {f"{stem}.safetensors.index.json": _index(g) for stem, g in groups.items() if len(g) > 1}


def _index(shards: Sequence[Shard]) -> dict[str, Any]:
    shard_of = {
        name.removeprefix(shard.prefix): shard.file_name.removeprefix(shard.prefix)
        for shard in shards
        for name in shard.tensors
    }
    sizes = {
        "total_parameters": sum(shard.num_elements for shard in shards),
        "total_size": sum(shard.num_bytes for shard in shards),
    }
    return {"metadata": sizes, "weight_map": shard_of}


def _by_folder(
    tensors: Mapping[str, TensorType], components: Mapping[str, str]
) -> dict[str, dict[str, TensorType]]:
    """Group tensors by the component that their names begin with, the innermost."""
    folders = sorted(filter(None, components), key=len, reverse=True)
    groups: dict[str, dict[str, TensorType]] = {}
    for name, type_ in tensors.items():
        own = next((folder for folder in folders if name.startswith(f"{folder}/")), "")
        groups.setdefault(own, {})[name] = type_
    return groups or {"": {}}


def _in_folder(
    prefix: str, stem: str, tensors: Mapping[str, TensorType], limit: float
) -> list[Shard]:
    """Lay out the files of one folder."""
    groups: list[dict[str, TensorType]] = [{}]
    size = 0
    for name, (dtype, shape) in tensors.items():
        num_bytes = math.prod(shape) * dtype.itemsize
        if groups[-1] and size + num_bytes > limit:
            groups.append({})
            size = 0
        groups[-1][name] = (dtype, shape)
        size += num_bytes
    if len(groups) == 1:
        return [Shard(f"{prefix}{stem}.safetensors", groups[0])]
    return [
        Shard(f"{prefix}{stem}-{number:05d}-of-{len(groups):05d}.safetensors", group)
        for number, group in enumerate(groups, start=1)
    ]
