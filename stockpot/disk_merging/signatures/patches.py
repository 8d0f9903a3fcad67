"""Patches: files of weight signatures in a few bits per entry, read like the signatures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.quantization import Grid, num_bytes, unpack
from stockpot.storage.weights.opening import PATCH
from stockpot.storage.weights.safetensors_format import StoredTensor
from stockpot.storage.weights.shards import TensorType
from stockpot.storage.weights.sources import Source, open_files

_GRID = ":grid"  # suffix of the tensor with the lowest value and the step of another one's grid


@dataclass(kw_only=True)
class PatchSource(Source):
    """The signatures in a patch, in float32; they are computed from their codes when read.

    Attributes:
        codes: the file.
        bits: of each code.
    """

    codes: Source
    bits: int

    def read_run(self, name: str, first: int, last: int) -> Tensor:
        """Return the entries [first, last) of a flattened signature."""
        start, end = first * self.bits // 8, num_bytes(last, self.bits)
        packed = self.codes.read_run(name, start, end)
        codes = unpack(packed, self.bits, first * self.bits - 8 * start, last - first)
        low, step = self.codes.read(grid_name(name)).tolist()
        return Grid(low, step, self.bits).values(codes)


class Zeros(Source):
    """A model whose tensors are 0: the clean model of signatures that are given as such."""

    def read_run(self, name: str, first: int, last: int) -> Tensor:
        """Return zeros for the entries [first, last) of a flattened tensor."""
        return torch.zeros(last - first, dtype=self.tensors[name].dtype)


def zeros_like(sources: Sequence[Source]) -> Zeros:
    """Return a model of zeros with the names and shapes of some files, of which nothing is read."""
    tensors = {
        name: replace(tensor, num_bytes=0)
        for source in reversed(sources)
        for name, tensor in source.tensors.items()
    }
    return Zeros(sources[0].path, (), tensors)


def patch_layout(shapes: Mapping[str, tuple[int, ...]], bits: int) -> dict[str, TensorType]:
    """Return the dtype and shape of each tensor in the file of a patch.

    Args:
        shapes: of the signatures, by name.
        bits: of each code.
    """
    codes: dict[str, TensorType] = {
        name: (torch.uint8, (num_bytes(torch.Size(shape).numel(), bits),))
        for name, shape in shapes.items()
    }
    return codes | {grid_name(name): (torch.float64, (2,)) for name in shapes}


def patch_metadata(shapes: Mapping[str, tuple[int, ...]], bits: int) -> dict[str, str]:
    """Return the metadata that makes a file a patch."""
    return {PATCH: json.dumps({"bits": bits, "shapes": shapes}, sort_keys=True)}


def grid_name(name: str) -> str:
    """Return the name of the tensor with a signature's grid: its lowest value and step, float64."""
    return name + _GRID


def open_patch(path: Path) -> PatchSource:
    """Open a patch; only its header is read.

    Raises:
        InputError: it is none, or damaged.
    """
    codes = open_files(path)
    text = codes.metadata.get(PATCH)
    if text is None:
        raise InputError(
            f"{path}: must be a patch, which `output: patch` writes, for role: patch, got other "
            "weights"
        )
    try:
        known = json.loads(text)
        bits = int(known["bits"])
        shapes = {str(name): tuple(map(int, shape)) for name, shape in known["shapes"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: damaged header of a patch ({error!r}); write it again"
        ) from error
    if {n: (t.dtype, t.shape) for n, t in codes.tensors.items()} != patch_layout(shapes, bits):
        raise InputError(f"{path}: its tensors are not those of its header; write the patch again")
    tensors = {name: _signature(codes.tensors[name], shape) for name, shape in shapes.items()}
    return PatchSource(path, codes.files, tensors, codes.metadata, codes=codes, bits=bits)


def _signature(codes: StoredTensor, shape: tuple[int, ...]) -> StoredTensor:
    return replace(codes, dtype=torch.float32, shape=shape)
