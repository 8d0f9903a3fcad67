"""Tensors of several models as a matrix, averaged block by block at the speed of memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_SMALL = 2**16  # entries of a tensor up to which it is copied next to others
_BLOCK = 2**18  # entries; fewer take longer, because of the overhead of an operation
_UNDIVIDED = 2**15 - 64  # entries that torch itself does not divide among threads
_THREADED = 2**20  # entries of a model from which several threads take less time than one


@dataclass(frozen=True, slots=True)
class _Piece:
    """Consecutive columns of the matrix.

    Attributes:
        start: the first column.
        rows: the entries of each model, flat.
    """

    start: int
    rows: Sequence[Tensor]


@dataclass(frozen=True, slots=True)
class _Block:
    """Columns that are averaged at once: `first` to `last` (exclusive) of a piece."""

    piece: _Piece
    first: int
    last: int

    @property
    def columns(self) -> slice:
        """The columns in the whole matrix."""
        return slice(self.piece.start + self.first, self.piece.start + self.last)

    def row(self, model: int) -> Tensor:
        """Return the entries of a model."""
        return self.piece.rows[model][self.first : self.last]


class FlatTensors:
    """Same-named tensors of M models, of one floating-point dtype, as a matrix (M, P).

    Large tensors are read where they are, for example in files that are mapped into memory, so
    that M models need no memory of their own; small ones are copied next to each other.

    Attributes:
        names: the names of the tensors.
        size: P, the entries of a model.
        dtype: of the tensors.
        sum_dtype: of sums: float32, or float64 for tensors of that.
    """

    def __init__(
        self, states: Sequence[Mapping[str, Tensor]], names: Sequence[str], device: str
    ) -> None:
        """Arrange tensors, which have equal shapes and one dtype in all models."""
        first = states[0]
        self.dtype = first[names[0]].dtype
        self.sum_dtype = torch.promote_types(self.dtype, torch.float32)
        small = [name for name in names if first[name].numel() <= _SMALL]
        large = [name for name in names if first[name].numel() > _SMALL]
        self.names = (*small, *large)
        self._shapes = {name: first[name].shape for name in self.names}
        self.size = sum(shape.numel() for shape in self._shapes.values())
        self._device = torch.device(device)
        parts = [small, *([name] for name in large)] if small else [[name] for name in large]
        self._pieces: list[_Piece] = []
        start = 0
        for part in parts:
            rows = [_flat([state[name] for name in part]).to(self._device) for state in states]
            self._pieces.append(_Piece(start, rows))
            start += len(rows[0])

    def empty(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return memory for one row (P,)."""
        return torch.empty(self.size, dtype=dtype or self.dtype, device=self._device)

    def named(self, row: Tensor) -> dict[str, Tensor]:
        """Split a row (P,) into named views."""
        pieces = torch.split(row, [shape.numel() for shape in self._shapes.values()])
        return {
            name: piece.view(shape)
            for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)
        }

    def sum_into(
        self,
        out: Tensor,
        models: Sequence[int],
        coefficients: Sequence[float],
        *,
        divisor: float = 1.0,
        start: Tensor | None = None,
    ) -> None:
        """Write a weighted sum of rows, in the order given, divided at the end.

        Each entry is computed by the operations of the merge method `linear`, so it has the same
        bits: multiplied, added, divided, and rounded to the dtype of `out` at the end.

        Args:
            out: (P,), written.
            models: positions of models.
            coefficients: one per model.
            divisor: of the sum.
            start: (P,), of `sum_dtype`: what the rows are added to, may be `out`.
        """

        def work(blocks: Sequence[_Block], spare: Tensor) -> None:
            with torch.no_grad():  # each thread has its own mode
                for block in blocks:
                    own = out[block.columns]
                    total, product = spare[:, : block.last - block.first]
                    if out.dtype == self.sum_dtype:
                        total = own
                    terms = [(block.row(m), c) for m, c in zip(models, coefficients, strict=True)]
                    if start is not None:
                        terms = [(start[block.columns], 1.0), *terms]
                    _sum(total, terms, product)
                    if divisor != 1:
                        total.div_(divisor)
                    if total is not own:
                        own.copy_(total)

        if len(self._spare) == 1:
            work(self._blocks, self._spare[0])
        else:
            list(self._threads.map(work, _shares(self._blocks, len(self._spare)), self._spare))

    @cached_property
    def _blocks(self) -> list[_Block]:
        length = _BLOCK if torch.get_num_threads() == 1 else _UNDIVIDED
        if self._device.type != "cpu":
            length = self.size  # each operation on a block would take a launch
        return [
            _Block(piece, first, min(first + length, len(piece.rows[0])))
            for piece in self._pieces
            for first in range(0, len(piece.rows[0]), length)
        ]

    @cached_property
    def _spare(self) -> Tensor:
        """Memory for a sum and a product of a block, for each thread."""
        is_shared = self.size >= _THREADED and self._device.type == "cpu"
        threads = torch.get_num_threads() if is_shared else 1
        widest = max((block.last - block.first for block in self._blocks), default=0)
        return torch.empty(threads, 2, widest, dtype=self.sum_dtype, device=self._device)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(len(self._spare))


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return the entries of tensors; those of one alone are not copied."""
    flat = [tensor.detach().reshape(-1) for tensor in tensors]
    return flat[0] if len(flat) == 1 else torch.cat(flat)


def _sum(total: Tensor, terms: Sequence[tuple[Tensor, float]], product: Tensor) -> None:
    """Write the sum of tensors times their coefficients; `product` is memory for one product."""
    (first, coefficient), *others = terms
    is_plain = [c == 1 and tensor.dtype == total.dtype for tensor, c in terms[:2]]
    if is_plain == [True, True]:
        torch.add(first, others.pop(0)[0], out=total)  # without writing a copy of the first one
    elif first.data_ptr() != total.data_ptr():
        total.copy_(first)
    if coefficient != 1:
        total.mul_(coefficient)
    for tensor, coefficient in others:
        if coefficient == 1 and tensor.dtype == total.dtype:
            total += tensor
        elif tensor.dtype == total.dtype:
            total += torch.mul(tensor, coefficient, out=product)
        else:
            total += product.copy_(tensor).mul_(coefficient)


def _shares(blocks: Sequence[_Block], number: int) -> list[Sequence[_Block]]:
    """Divide blocks into consecutive ones for each thread."""
    length = -(-len(blocks) // number)
    return [blocks[share * length : (share + 1) * length] for share in range(number)]
