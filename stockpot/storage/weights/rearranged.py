"""A model whose tensors are read under other names, or put together from parts of others."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from stockpot.storage.digests import Algorithm, FileState
from stockpot.storage.weights.safetensors_format import StoredTensor
from stockpot.storage.weights.sources import Source


class Part(NamedTuple):
    """The elements [first, last) of a flattened tensor of the model."""

    name: str
    first: int
    last: int


Parts = tuple[Part, ...]


@dataclass(kw_only=True)
class RearrangedSource(Source):
    """A view of another model; nothing is read before it is asked for.

    Attributes:
        inner: the model as it was opened.
        parts: what each tensor consists of, in the order of its elements.
    """

    inner: Source
    parts: Mapping[str, Parts]

    @property
    def folder(self) -> Path | None:
        """The folder that may hold config and tokenizer."""
        return self.inner.folder

    def output_dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a merged tensor that follows this model."""
        return self.inner.output_dtype(self.parts[name][0].name)

    def may_round_to_zero(self, name: str) -> bool:
        """Return whether zeros of a tensor may be small values."""
        return self.inner.may_round_to_zero(self.parts[name][0].name)

    def bytes_to_compute(self, name: str) -> int:
        """Return the memory that reading any element of a tensor takes, if all are computed."""
        return sum(self.inner.bytes_to_compute(part.name) for part in self.parts[name])

    def read_run(self, name: str, first: int, last: int) -> Tensor:
        """Return the elements [first, last) of a flattened tensor; a view if it is one part."""
        parts = self.parts[name]
        if len(parts) == 1:
            (part,) = parts
            return self.inner.read_run(part.name, part.first + first, part.first + last)
        runs, starts = [], self._starts[name]
        for number in range(max(0, bisect_right(starts, first) - 1), len(parts)):
            start, part = starts[number], parts[number]
            if start >= last:
                break
            begin, end = max(first - start, 0), min(last - start, part.last - part.first)
            runs.append(self.inner.read_run(part.name, part.first + begin, part.first + end))
        return torch.cat(runs) if runs else self.inner.read_run(parts[0].name, 0, 0)

    @property
    def states(self) -> list[FileState]:
        """The states of the files that the digest covers."""
        return self.inner.states

    def digest_by(self, algorithm: Algorithm) -> str:
        """Return the digest of the model as it was opened."""
        return self.inner.digest_by(algorithm)

    @cached_property
    def _starts(self) -> dict[str, list[int]]:
        """Where in the flattened tensor each of its parts begins."""
        sizes = {name: [last - first for _, first, last in own] for name, own in self.parts.items()}
        return {name: list(accumulate(own, initial=0))[:-1] for name, own in sizes.items()}


def rearranged(
    inner: Source, parts: Mapping[str, Parts], shapes: Mapping[str, tuple[int, ...]], note: str
) -> RearrangedSource:
    """View a model under other names.

    Args:
        inner: the model.
        parts: what each tensor consists of; all of one dtype.
        shapes: of the tensors that are put together or cut out; others keep theirs.
        note: what was done, one sentence.
    """
    tensors = {
        name: _stored(inner, own, shapes.get(name, inner.tensors[own[0].name].shape))
        for name, own in parts.items()
    }
    return RearrangedSource(
        inner.path,
        inner.files,
        tensors,
        inner.metadata,
        notes=(*inner.notes, note),
        components=inner.components,
        inner=inner,
        parts=parts,
    )


def _stored(inner: Source, parts: Parts, shape: tuple[int, ...]) -> StoredTensor:
    first = inner.tensors[parts[0].name]
    num_bytes = sum(
        inner.tensors[name].num_bytes * (last - start) // max(inner.tensors[name].num_elements, 1)
        for name, start, last in parts
    )
    return StoredTensor(first.file, first.dtype, shape, 0, num_bytes)
