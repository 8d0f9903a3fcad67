"""Embeddings and heads of models with unequal vocabularies, read as if all had the output's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from stockpot.disk_merging.planning.origins import Origin, TensorInputs
from stockpot.disk_merging.vocabulary.rows import ABSENT, Rows
from stockpot.errors import InputError
from stockpot.merging.runs import MOST_ENTRIES
from stockpot.storage.digests import Algorithm, FileState
from stockpot.storage.weights.safetensors_format import StoredTensor
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import token_axis


def aligned(inputs: TensorInputs, rows: Rows, models: Sequence[Source]) -> TensorInputs:
    """View the tensors of an embedding or a head with one row for each token of the output.

    Args:
        inputs: of one tensor of the output.
        rows: of all models.
        models: those that `rows` has, in its order.

    Returns:
        The same inputs if the tensor is not indexed by tokens, or needs no change.

    Raises:
        InputError: a tensor has fewer or more rows than the vocabulary of its model, or the model
            that a token's row is taken from lacks the tensor.

    Source: `PermutedVocabulary` of mergekit.
    """
    axis = token_axis(inputs.name)
    origins = [origin for origin in inputs.origins if origin.exists]
    if axis is None or any(len(origin.stored.shape) <= axis for origin in origins):
        return inputs
    number_of = {id(model): number for number, model in enumerate(models)}
    unique = {number_of[id(origin.source)]: origin for origin in origins}
    own = rows.of([*unique])
    differing = [
        (origin, length)
        for origin, length in zip(unique.values(), own.lengths, strict=True)
        if origin.stored.shape[axis] != length
    ]
    if len(differing) == len(unique):
        return inputs  # the head of a classifier
    for origin, length in differing:
        raise InputError(
            f"tensor {origin.name!r} of {origin.source.path}: has {origin.stored.shape[axis]} rows "
            f"or columns for tokens, its embedding has {length}; only models with one vocabulary "
            "can be given another one"
        )
    _check_chosen(inputs.name, rows, own, models)
    if own.is_identity:
        return inputs
    table = _Table(tuple(unique.values()), own, axis)
    place = {id(origin.source): n for n, origin in enumerate(table.origins)}
    return inputs.changed(
        lambda origin: table.view(place[id(origin.source)]) if origin.exists else origin
    )


def _check_chosen(name: str, rows: Rows, own: Rows, models: Sequence[Source]) -> None:
    """Refuse a tensor that lacks the model from which the row of a token is taken."""
    for row, (model, _) in rows.chosen.items():
        if model != ABSENT and own.chosen[row][0] == ABSENT and own.is_taken[:, row].any():
            raise InputError(
                f"tokenizer.tokens: a row of {name!r} is that of {models[model].path}, which is "
                "not merged into this tensor; name another source"
            )


@dataclass(frozen=True)
class _Table:
    """The tensors of all models that are one tensor of the output.

    Attributes:
        origins: M tensors.
        rows: of these models.
        axis: that tokens index; those before it have one element.
        means: of the rows of all tokens, by model, once they are known.
        lock: for `means`.
    """

    origins: tuple[Origin, ...]
    rows: Rows
    axis: int
    means: dict[int, Tensor] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def view(self, number: int) -> Origin:
        """Return the tensor of a model with the output's rows."""
        origin = self.origins[number]
        stored = origin.stored
        before, after = stored.shape[: self.axis], stored.shape[self.axis + 1 :]
        shape = (*before, self.rows.size, *after)
        num_bytes = math.prod(shape) * stored.dtype.itemsize
        tensors = {origin.name: StoredTensor(stored.file, self.dtype, shape, 0, num_bytes)}
        source = origin.source
        view = AlignedSource(
            source.path, source.files, tensors, source.metadata, origin=origin, table=self, n=number
        )
        return replace(origin, source=view)

    @cached_property
    def dtype(self) -> torch.dtype:
        """A dtype that holds the rows of all models, and their means without further rounding."""
        dtypes = [origin.stored.dtype for origin in self.origins]
        # torch does not promote 8-bit floats.
        wide = [torch.float32 if dtype.itemsize < 4 else dtype for dtype in dtypes]
        return reduce(torch.promote_types, wide)

    @property
    def num_columns(self) -> int:
        """The number of elements of a row."""
        return math.prod(self.origins[0].stored.shape[self.axis + 1 :])

    def read(self, number: int, first: int, last: int) -> Tensor:
        """Read the rows [first, last) of a model's view as (rows, columns)."""
        rows = self._rows_of_tokens(number, first, last)
        is_padding = ~self.rows.is_token[first:last]
        if is_padding.any():
            rows[is_padding] = self._padding(number)
        return rows

    def _rows_of_tokens(self, number: int, first: int, last: int) -> Tensor:
        """Read the rows [first, last); those without a token are zeros."""
        kept = self.rows.kept[number, first:last]
        own = kept != ABSENT
        if own.all():
            return self._gather(number, kept)
        rows = torch.zeros(last - first, self.num_columns, dtype=self.dtype)
        rows[own] = self._gather(number, kept[own])
        rows[~own] = self._means(self.rows.donors[:, first:last][:, ~own])
        return rows

    def _means(self, donors: Tensor) -> Tensor:
        """Return the mean of the given rows (M, rows) of the models; zeros where there are none."""
        total = torch.zeros(donors.shape[1], self.num_columns, dtype=self.dtype)
        for number, rows in enumerate(donors):
            given = rows != ABSENT
            total[given] += self._gather(number, rows[given])
        counts = (donors != ABSENT).sum(0).clamp(min=1)
        return total / counts.unsqueeze(1)

    def _padding(self, number: int) -> Tensor:
        """Return the mean of the rows of all tokens of a model, as (columns,).

        A net then rarely predicts the rows that are no tokens: Hewitt 2021
        (https://nlp.stanford.edu/~johnhew/vocab-expansion.html).
        """
        with self.lock:  # other threads wait for the mean instead of computing it too
            if number not in self.means:
                self.means[number] = self._mean(number)
        return self.means[number]

    def _mean(self, number: int) -> Tensor:
        total = torch.zeros(self.num_columns, dtype=torch.float64)
        block = max(1, MOST_ENTRIES // self.num_columns)
        for first in range(0, self.rows.size, block):
            last = min(first + block, self.rows.size)
            total += self._rows_of_tokens(number, first, last).sum(0, dtype=torch.float64)
        return (total / int(self.rows.is_token.sum())).to(self.dtype)

    def _gather(self, number: int, rows: Tensor) -> Tensor:
        """Read rows of a model's own tensor; consecutive ones at once."""
        origin, size = self.origins[number], self.num_columns
        if not len(rows):
            return torch.empty(0, size, dtype=self.dtype)
        ends = [*((rows.diff() != 1).nonzero().flatten() + 1).tolist(), len(rows)]
        runs, begin = [], 0
        for end in ends:
            first, last = int(rows[begin]), int(rows[end - 1]) + 1
            runs.append(origin.source.read_run(origin.name, first * size, last * size))
            begin = end
        whole = runs[0] if len(runs) == 1 else torch.cat(runs)
        return whole.to(self.dtype).view(-1, size)


@dataclass(kw_only=True)
class AlignedSource(Source):
    """One tensor of a model with the output's rows, which are put together when they are read.

    Attributes:
        origin: the tensor as the model has it.
        table: the tensors of all models.
        n: the number of the model in it.
    """

    origin: Origin
    table: _Table
    n: int

    @property
    def folder(self) -> Path | None:
        """The folder that may hold config and tokenizer."""
        return self.origin.source.folder

    def output_dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a merged tensor that follows this model."""
        return self.origin.source.output_dtype(name)

    def may_round_to_zero(self, name: str) -> bool:
        """Return whether zeros are no mask: they may be small values, or rows without a source."""
        return self.table.rows.has_zeros or self.origin.source.may_round_to_zero(name)

    def bytes_to_compute(self, name: str) -> int:  # noqa: ARG002 (it has one)
        """Return the memory that reading any element of a tensor takes, if all are computed."""
        return sum(origin.bytes_to_compute for origin in self.table.origins)

    def read_run(self, name: str, first: int, last: int) -> Tensor:  # noqa: ARG002 (it has one)
        """Return the elements [first, last) of the flattened tensor."""
        size = self.table.num_columns
        start = first // size
        rows = self.table.read(self.n, start, -(-last // size))
        return rows.view(-1)[first - start * size : last - start * size]

    @property
    def states(self) -> list[FileState]:
        """The states of the files that the digest covers."""
        return self.origin.source.states

    def digest_by(self, algorithm: Algorithm) -> str:
        """Return the digest of the model."""
        return self.origin.source.digest_by(algorithm)
