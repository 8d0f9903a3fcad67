"""Models on disk in any format, as a mapping of names to tensors that are read one at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.storage.digests import Algorithm, FileState, file_state, files_digest, map_file
from stockpot.storage.weights.components import stem_of, weight_folders
from stockpot.storage.weights.foreign_formats import refuse_foreign
from stockpot.storage.weights.model_files import index_of, locate_weights, read_index
from stockpot.storage.weights.pickles import SUFFIXES, load_pickle
from stockpot.storage.weights.safetensors_format import StoredTensor, read_header

T = TypeVar("T")


@dataclass
class Source:
    """One model on disk; its files are mapped into memory read-only.

    Attributes:
        path: the file or folder that was opened.
        files: the weight files.
        tensors: by name; for pickles and adapted models, the position is meaningless.
        metadata: of the headers.
        loaded: the tensors of pickles, which have no positions.
        notes: what was done to read the tensors as weights, one sentence each.
        components: the folders with weights, "" for the model's own, each with the name of its
            files without number and suffix.
    """

    path: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    loaded: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Sequence[str] = ()
    components: Mapping[str, str] = field(default_factory=lambda: {"": "model"})
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

    def may_round_to_zero(self, name: str) -> bool:
        """Return whether zeros of a tensor may be small values: then they are no mask."""
        return self.tensors[name].dtype.itemsize == 1

    def bytes_to_compute(self, name: str) -> int:
        """Return the memory that reading any element of a tensor takes, if all are computed.

        0 if elements are read, or computed, on their own.
        """
        del name
        return 0

    def read(self, name: str) -> Tensor:
        """Return a tensor, a view of the mapped file: writing to it crashes the process."""
        stored = self.tensors[name]
        return self.read_run(name, 0, stored.num_elements).view(stored.shape)

    def read_run(self, name: str, first: int, last: int) -> Tensor:
        """Return the elements [first, last) of a flattened tensor, a view as in `read`."""
        if name in self.loaded:
            return self.loaded[name].reshape(-1)[first:last]
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

    @property
    def digest(self) -> str:
        """The digest of the model in new pedigrees."""
        return self.digest_by("blake3")

    def digest_by(self, algorithm: Algorithm) -> str:
        """Return the digest of the one weight file, or of the digests of all."""
        return files_digest(self.files, algorithm)

    def _map(self, file: Path) -> Tensor:
        if file not in self._maps:
            # Read-only: a copy-on-write map would count in full as private memory of the process.
            warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
            self._maps[file] = torch.frombuffer(map_file(file), dtype=torch.uint8)
        return self._maps[file]


def open_files(path: Path) -> Source:
    """Open weights as they are stored: a safetensors file, a pickle, or a folder with either.

    Of an adapter, these are its factors; `open_source` applies it to its base. Of a model whose
    modules or components have folders of their own, these are the weights of all, named
    `folder/name`. Only headers are read, except that a pickle is loaded whole, with `weights_only`.

    Raises:
        InputError: there are no weights, or they are damaged or not safe to load.
    """
    folders = weight_folders(path)
    if folders == [""]:
        return _open_one(path)
    return _joined(path, {folder: _open_one(path / folder) for folder in folders})


def _joined(path: Path, sources: Mapping[str, Source]) -> Source:
    """Join the weights of a model's folders into one model."""

    def prefixed(values: Callable[[Source], Mapping[str, T]]) -> dict[str, T]:
        return {
            f"{folder}/{name}" if folder else name: value
            for folder, source in sources.items()
            for name, value in values(source).items()
        }

    return Source(
        path,
        tuple(file for source in sources.values() for file in source.files),
        prefixed(lambda source: source.tensors),
        {name: text for source in sources.values() for name, text in source.metadata.items()},
        prefixed(lambda source: source.loaded),
        components={folder: stem_of(source.files[0]) for folder, source in sources.items()},
    )


def _open_one(path: Path) -> Source:
    files = locate_weights(path)
    for file in files:
        if file.exists() and not (
            file.is_file() or file.is_dir()
        ):  # reading a pipe would wait for ever
            raise InputError(f"{file}: must be a regular file, or a link to one")
        refuse_foreign(file)
    index = index_of(path)
    if index is not None:
        return _open_shards(path, files, index)
    return _open_file(path, files[0])


def _open_file(path: Path, file: Path) -> Source:
    if file.suffix in SUFFIXES:
        state = load_pickle(file)
        tensors = {
            name: StoredTensor(file, tensor.dtype, tuple(tensor.shape), 0, tensor.nbytes)
            for name, tensor in state.items()
        }
        return Source(path, (file,), tensors, {}, state)
    tensors, metadata = read_header(file)
    return Source(path, (file,), tensors, metadata)


def _open_shards(folder: Path, shards: tuple[Path, ...], index: Path) -> Source:
    """Open shards; of a tensor that several shards hold, the one in the index is read.

    Raises:
        InputError: a shard is damaged, or its tensors are not those of the index.
    """
    shard_of = read_index(index)
    tensors: dict[str, StoredTensor] = {}
    metadata: dict[str, str] = {}
    loaded: dict[str, Tensor] = {}
    for shard in shards:
        held = _open_file(shard, shard)
        listed = {name for name, file in shard_of.items() if file == shard.name}
        if missing := sorted(listed - held.tensors.keys()):
            raise InputError(f"{shard}: tensors {missing[:3]} of the index are not in it")
        if extra := sorted(held.tensors.keys() - shard_of.keys()):
            raise InputError(
                f"{shard}: tensors {extra[:3]} are not in {index.name}; the index belongs to other "
                "shards: download or save the model again"
            )
        tensors |= {name: held.tensors[name] for name in held.tensors if name in listed}
        metadata |= held.metadata
        loaded |= {name: held.loaded[name] for name in held.loaded if name in listed}
    return Source(folder, shards, tensors, metadata, loaded)
