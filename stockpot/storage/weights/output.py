"""Write weights in place into files whose layout is fixed before the first byte.

Files are written to a folder next to the final path until all are complete; a run that was killed
resumes with the first unfinished shard.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import torch
from rich.filesize import decimal
from torch import Tensor

from stockpot.errors import InputError
from stockpot.storage.atomic_files import write_text
from stockpot.storage.weights.places import check_place, publish, sole_place
from stockpot.storage.weights.shards import ONE_FOLDER, Shard, TensorType, indexes, lay_out

Facts = dict[str, list[int]]

_PROGRESS = ".stockpot-progress.json"  # a name that no file of a model has
_SECONDS_TO_FLUSH = 0.25  # between two flushes to disk


class ShardedOutput:
    """The files of one merged model: a folder, or a single file that ends in `.safetensors`."""

    def __init__(
        self,
        place: Path,
        tensors: Mapping[str, TensorType],
        metadata: Mapping[str, str],
        max_shard_bytes: int,
        inputs: Sequence[Path] | None = None,
        components: Mapping[str, str] = ONE_FOLDER,
    ) -> None:
        """Compute the layout; nothing is written yet.

        Args:
            place: the path of the model.
            tensors: dtype and shape of each tensor, in the order in which they are merged.
            metadata: for the headers.
            max_shard_bytes: the size limit of a shard, unless a single tensor exceeds it.
            inputs: what must survive if an existing model is replaced; None refuses to replace.
            components: the folders with weights, "" for the model's own, each with the name of its
                files without number and suffix; tensors of a folder are named `folder/name`.

        Raises:
            InputError: a single file cannot hold the weights of several folders.
        """
        self.place = place
        self._metadata, self._inputs = metadata, inputs
        self._is_file = place.suffix == ".safetensors"
        limit = math.inf if self._is_file else max_shard_bytes
        self.shards = lay_out(tensors, components, limit)
        if self._is_file and (inner := next((s.prefix for s in self.shards if s.prefix), "")):
            raise InputError(
                f"{place}: the models have weights in folders of their own ({inner!r}); name a "
                "folder for the merged model"
            )
        self.work = place.with_name(f".{place.name}.merging")
        # Facts of the finished shards, by file name; they survive an interrupted merge.
        self.facts: dict[str, Facts] = {}

    @property
    def num_bytes(self) -> int:
        """The size of all tensors."""
        return sum(shard.num_bytes for shard in self.shards)

    @property
    def num_bytes_held(self) -> int:
        """The size of what an interrupted merge, which would be resumed, has allocated."""
        return sum(f.stat().st_blocks * 512 for f in self.work.rglob("*") if f.is_file())

    def check(self) -> None:
        """Refuse a place that exists and may not be replaced, or lacks permissions or space.

        Raises:
            InputError: with the reason and what to do.
        """
        check_place(self.place, self._inputs)
        parent = self.place.parent
        free = shutil.disk_usage(parent).free + self.num_bytes_held
        if free < self.num_bytes:
            raise InputError(
                f"{parent}: {decimal(self.num_bytes)} are needed, {decimal(free)} are free"
            )

    @contextmanager
    def opened(self, key: str) -> Iterator[list[Shard]]:
        """Yield the shards that are not yet written; on success the files get their final names.

        Args:
            key: identifies the content: unfinished work of another key or layout is deleted.

        Raises:
            InputError: nothing can be written there, or another process writes to it.
        """
        heads = [shard.head(self._metadata)[0] for shard in self.shards]
        key = hashlib.sha256(b"".join([key.encode(), *heads])).hexdigest()
        self.check()
        with sole_place(self.place):
            self.check()  # again: another process may just have finished
            done = self._done(key)
            if not done and self.work.exists():
                shutil.rmtree(self.work)
            self.work.mkdir(exist_ok=True)
            self._record(key, done)
            self._key, self.facts = key, done
            yield [shard for shard in self.shards if shard.file_name not in done]
            self._finish()

    def write_metadata(self, metadata: Mapping[str, str]) -> None:
        """Replace the metadata in the headers by one of the same length, known only at the end.

        Args:
            metadata: text by name.
        """
        for shard in self.shards:
            before, _ = shard.head(self._metadata)
            head, _ = shard.head(metadata)
            assert len(head) == len(before)
            with (self.work / shard.file_name).open("r+b") as file:
                file.write(head)
                file.flush()
                os.fsync(file.fileno())

    @contextmanager
    def writing(self, shard: Shard) -> Iterator[ShardWriter]:
        """Yield the writer of a shard; on success the shard counts as done."""
        head, starts = shard.head(self._metadata)
        path = self.work / shard.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            # Allocate the whole file, so that a full disk is found before any work.
            self._allocate(descriptor, len(head) + shard.num_bytes)
            _write_all(descriptor, memoryview(head), 0)
            with _flushed_meanwhile(descriptor):
                writer = ShardWriter(descriptor, starts)
                yield writer
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.facts[shard.file_name] = writer.facts
        self._record(self._key, self.facts)

    def _allocate(self, descriptor: int, num_bytes: int) -> None:
        """Allocate a file at once, so that no later write can run out of space.

        Raises:
            InputError: there is not enough space.
        """
        try:
            os.posix_fallocate(descriptor, 0, num_bytes)
        except OSError as error:
            raise InputError(
                f"{self.place}: a file of {num_bytes / 1e9:.2f} GB could not be allocated "
                f"({error.strerror}); free space and run it again, finished files are kept"
            ) from error

    def _done(self, key: str) -> dict[str, Facts]:
        try:
            content = json.loads((self.work / _PROGRESS).read_text(encoding="utf-8"))
            return dict(content["done"]) if content["key"] == key else {}
        except (OSError, ValueError, LookupError, TypeError):
            return {}

    def _record(self, key: str, done: Mapping[str, Facts]) -> None:
        write_text(self.work / _PROGRESS, json.dumps({"key": key, "done": done}))

    def _finish(self) -> None:
        if self._is_file:
            publish(self.work / self.shards[0].file_name, self.place)
            shutil.rmtree(self.work)
            return
        for name, index in indexes(self.shards).items():
            write_text(self.work / name, json.dumps(index, indent=2))
        (self.work / _PROGRESS).unlink()
        publish(self.work, self.place)


@dataclass(frozen=True, slots=True)
class ShardWriter:
    """Writes tensors, or runs of their elements, to their positions in one file.

    Attributes:
        descriptor: of the file.
        starts: position of each tensor's first byte.
        facts: what is found out about the content while it is written; stored once the file is
            finished, so that a resumed merge knows it.
    """

    descriptor: int
    starts: Mapping[str, int]
    facts: Facts = field(default_factory=dict)

    def write(self, name: str, elements: Tensor, first: int = 0) -> None:
        """Write elements of a tensor, starting at index `first`; thread-safe.

        Args:
            name: the tensor's name.
            elements: contiguous, of the tensor's dtype, on the CPU.
            first: index of the first element in the flattened tensor.
        """
        if elements.numel() == 0:
            return
        data = elements.reshape(-1).view(torch.uint8).numpy().data
        _write_all(self.descriptor, data, self.starts[name] + first * elements.element_size())


@contextmanager
def _flushed_meanwhile(descriptor: int) -> Iterator[None]:
    """Flush to disk in the background, so that the final flush is short."""
    is_over = Event()

    def flush() -> None:
        while not is_over.wait(_SECONDS_TO_FLUSH):
            os.fdatasync(descriptor)

    with ThreadPoolExecutor(1) as thread:
        flushing = thread.submit(flush)
        try:
            yield
        finally:
            is_over.set()
        flushing.result()  # the system reports a write error once, perhaps to this thread


def _write_all(descriptor: int, data: memoryview, place: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, place)  # at most 2 GB at once
        data, place = data[written:], place + written
