"""Models on disk, whatever their form, as names to tensors that are read one at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.storage.digests import FileState, file_state, files_digest, map_file
from stockpot.storage.weights.model_files import INDEX, locate_weights, read_index
from stockpot.storage.weights.safetensors_format import NAMES, StoredTensor, read_header

_PICKLES = (".pt", ".pth", ".bin", ".ckpt")


@dataclass
class Source:
    """One model on disk. Its files are mapped into memory, where they cannot be written to.

    Attributes:
        path: the file or folder that was named.
        files: the files that hold weights.
        tensors: where each tensor lies; for pickles and adapted models, what it is.
        metadata: the text in the headers.
    """

    path: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    _loaded: Mapping[str, Tensor] = field(default_factory=dict)
    _maps: dict[Path, Tensor] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """The folder that may have a config and a tokenizer beside the weights."""
        return self.path if self.path.is_dir() else None

    @property
    def num_bytes(self) -> int:
        """The bytes of all tensors."""
        return sum(tensor.num_bytes for tensor in self.tensors.values())

    def output_dtype(self, name: str) -> torch.dtype:
        """Return the dtype that a merged tensor keeps if this model is the one it follows."""
        return self.tensors[name].dtype

    def read(self, name: str) -> Tensor:
        """Return a tensor; its memory is the file's: a process that writes to it ends there."""
        stored = self.tensors[name]
        return self.read_run(name, 0, stored.num_elements).view(stored.shape)

    def read_run(self, name: str, first: int, last: int) -> Tensor:
        """Return the elements from `first` to `last` of a flattened tensor; as with `read`."""
        if name in self._loaded:
            return self._loaded[name].reshape(-1)[first:last]
        stored = self.tensors[name]
        count, itemsize = last - first, stored.dtype.itemsize
        if count == 0:
            return torch.empty(0, dtype=stored.dtype)
        start = stored.start + first * itemsize
        raw = self._map(stored.file)[start : start + count * itemsize]
        if start % itemsize:  # some writers do not align
            raw = raw.clone()
        return raw.view(stored.dtype)

    @property
    def states(self) -> list[FileState]:
        """The states of the files that its digest is of; none of them is read."""
        return [file_state(file) for file in self.files]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weight files' digests, or of the one file; hex."""
        return files_digest(self.files)

    def _map(self, file: Path) -> Tensor:
        if file not in self._maps:
            self._maps[file] = torch.from_numpy(np.asarray(_MappedFile(file)))
        return self._maps[file]


class _MappedFile:
    """The bytes of a file, to be read only.

    A copy-on-write map would count as memory of the process's own, all of it, wherever that has
    a limit. numpy is told that it may write, since torch warns of memory that it may not write to.
    """

    def __init__(self, file: Path) -> None:
        self._map = map_file(file)
        address = np.frombuffer(self._map, dtype=np.uint8).ctypes.data
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (len(self._map),),
            "data": (address, False),
        }


def open_files(path: Path) -> Source:
    """Open weights as they are stored: a safetensors file, a pickle, or a folder with either.

    Of an adapter these are its factors; `open_source` puts it on its base.

    Only headers are read; a pickle is read whole, with nothing but weights allowed in it.

    Raises:
        InputError: there is nothing to read, or it is damaged, or it is not safe to read.
    """
    if path.is_dir():
        return _open_folder(path)
    if path.suffix in _PICKLES:
        return _open_pickle(path, path)
    tensors, metadata = read_header(path)
    return Source(path, (path,), tensors, metadata)


def _open_folder(folder: Path) -> Source:
    if (folder / INDEX).is_file():
        return _open_shards(folder)
    (file,) = locate_weights(folder)
    if file.suffix in _PICKLES:
        return _open_pickle(folder, file)
    tensors, metadata = read_header(file)
    return Source(folder, (file,), tensors, metadata)


def _open_shards(folder: Path) -> Source:
    shard_of = read_index(folder / INDEX)
    shards = locate_weights(folder)
    tensors: dict[str, StoredTensor] = {}
    metadata: dict[str, str] = {}
    for shard in shards:
        held, own = read_header(shard)
        listed = {name for name, file in shard_of.items() if file == shard.name}
        if missing := sorted(listed - held.keys()):
            raise InputError(f"{shard}: tensors {missing[:3]} of the index are not in it")
        tensors |= {name: held[name] for name in held if name in listed}
        metadata |= own
    return Source(folder, shards, tensors, metadata)


def _open_pickle(path: Path, file: Path) -> Source:
    try:
        is_zip = zipfile.is_zipfile(file)  # only the older form is not; it cannot be mapped
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{file}: not a file of weights alone ({reason}); nothing else is loaded, since a "
            "pickle can run any code: save its state dict as safetensors"
        ) from error
    state = content
    for name in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not all(_is_weight(*item) for item in state.items()):
        raise InputError(
            f"{file}: expected a state dict, names to dense tensors of {sorted(NAMES.values())}, "
            "got other things too"
        )
    state = {name: tensor.detach() for name, tensor in state.items()}  # parameters track gradients
    tensors = {
        name: StoredTensor(file, tensor.dtype, tuple(tensor.shape), 0, tensor.nbytes)
        for name, tensor in state.items()
    }
    return Source(path, (file,), tensors, {}, state)


def _is_weight(name: object, tensor: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.dtype in NAMES
    )
