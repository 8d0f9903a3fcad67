"""Models on disk in any format, as a mapping of names to tensors that are read one at a time."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.storage.digests import FileState, file_state, files_digest, map_file
from stockpot.storage.weights.model_files import INDEX, locate_weights, read_index
from stockpot.storage.weights.safetensors_format import NAMES, StoredTensor, read_header

_PICKLES = (".pt", ".pth", ".bin", ".ckpt")


@dataclass
class Source:
    """One model on disk; its files are mapped into memory read-only.

    Attributes:
        path: the file or folder that was opened.
        files: the weight files.
        tensors: by name; for pickles and adapted models, the position is meaningless.
        metadata: of the headers.
    """

    path: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    _loaded: Mapping[str, Tensor] = field(default_factory=dict)
    _maps: dict[Path, Tensor] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """The folder that may hold config and tokenizer; None for a single file."""
        return self.path if self.path.is_dir() else None

    @property
    def num_bytes(self) -> int:
        """The size of all tensors."""
        return sum(tensor.num_bytes for tensor in self.tensors.values())

    def output_dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a merged tensor that follows this model."""
        return self.tensors[name].dtype

    def read(self, name: str) -> Tensor:
        """Return a tensor, a view of the mapped file: writing to it crashes the process."""
        stored = self.tensors[name]
        return self.read_run(name, 0, stored.num_elements).view(stored.shape)

    def read_run(self, name: str, first: int, last: int) -> Tensor:
        """Return the elements [first, last) of a flattened tensor, a view as in `read`."""
        if name in self._loaded:
            return self._loaded[name].reshape(-1)[first:last]
        stored = self.tensors[name]
        itemsize = stored.dtype.itemsize
        start, end = stored.start + first * itemsize, stored.start + last * itemsize
        raw = self._map(stored.file)[start:end]
        if start % itemsize:  # some writers do not align
            raw = raw.clone()
        return raw.view(stored.dtype)

    @property
    def states(self) -> list[FileState]:
        """The states of the files that the digest covers; no file is read."""
        return [file_state(file) for file in self.files]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weight files' digests, or of the one file; hex."""
        return files_digest(self.files)

    def _map(self, file: Path) -> Tensor:
        if file not in self._maps:
            # Read-only: a copy-on-write map would count in full as private memory of the process.
            warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
            self._maps[file] = torch.frombuffer(map_file(file), dtype=torch.uint8)
        return self._maps[file]


def open_files(path: Path) -> Source:
    """Open weights as they are stored: a safetensors file, a pickle, or a folder with either.

    Of an adapter, these are its factors; `open_source` applies it to its base. Only headers are
    read, except that a pickle is loaded whole, with `weights_only`.

    Raises:
        InputError: there are no weights, or they are damaged or not safe to load.
    """
    files = locate_weights(path)
    if (path / INDEX).is_file():
        return _open_shards(path, files)
    (file,) = files
    if file.suffix in _PICKLES:
        return _open_pickle(path, file)
    tensors, metadata = read_header(file)
    return Source(path, files, tensors, metadata)


def _open_shards(folder: Path, shards: tuple[Path, ...]) -> Source:
    shard_of = read_index(folder / INDEX)
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
        is_zip = zipfile.is_zipfile(file)  # the legacy format is not; it cannot be mapped
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{file}: not a file of weights alone ({reason}); others are refused, since a pickle "
            "can run any code: save its state dict as safetensors"
        ) from error
    state = content
    for name in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not all(_is_weight(*item) for item in state.items()):
        raise InputError(
            f"{file}: expected a state dict, names to dense tensors of {sorted(NAMES.values())}, "
            "got other objects too"
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
