"""Random matrices of d columns whose rows are divided among the tensors of a model.

Li et al. 2018, https://arxiv.org/abs/1804.08838, section 2: columns are of unit length. A matrix is
drawn again from its seed wherever it is needed, and never stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import SubspaceKind
from stockpot.seeding import seeded_generator

_WIDEST = 64  # factor of a Hadamard matrix that is multiplied out
_MOST_NUMBERS = 2**29  # of a matrix that is held in memory: 2 GiB

_HADAMARD: dict[int, Tensor] = {1: torch.ones(1, 1)}
while (_width := max(_HADAMARD)) < _WIDEST:
    _HADAMARD[2 * _width] = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), _HADAMARD[_width])


class Projection:
    """The rows of a random matrix that belong to one tensor; maps d numbers to its entries."""

    def __call__(self, coordinates: Tensor) -> Tensor:
        """Return the product of the rows (n, d) and coordinates (d,); (n,)."""
        raise NotImplementedError

    def __deepcopy__(self, memo: dict[int, Any]) -> Projection:
        """Return itself: it never changes, so copies of a model share it."""
        return self


class _Matrix(Projection):
    """Rows that are held as numbers, dense or sparse."""

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows

    def __call__(self, coordinates: Tensor) -> Tensor:
        return (self._rows @ coordinates.unsqueeze(1)).squeeze(1)


class _Fastfood(Projection):
    """Blocks of H G P H B: Hadamard, Gaussian, permutation and sign matrices, never multiplied out.

    Le et al. 2013, https://proceedings.mlr.press/v28/le13.html. A block has the next power of two
    of d rows, whose squares sum to their share of 1 in every column; of the last block some rows
    are left out.
    """

    def __init__(self, size: int, total: int, dimension: int, draw: torch.Generator) -> None:
        self._size = size
        self._width = width = 2 ** math.ceil(math.log2(dimension))
        num_blocks = -(-size // width)
        shape = (num_blocks, width)
        self._signs = 2.0 * torch.randint(2, shape, generator=draw) - 1
        self._order = torch.rand(shape, generator=draw).argsort(dim=1)
        gaussian = torch.randn(shape, generator=draw)
        self._gaussian = gaussian / (total * gaussian.square().sum(dim=1, keepdim=True)).sqrt()

    def to(self, device: torch.device) -> _Fastfood:
        """Move it to a device."""
        self._signs, self._order = self._signs.to(device), self._order.to(device)
        self._gaussian = self._gaussian.to(device)
        return self

    def __call__(self, coordinates: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(coordinates, (0, self._width - len(coordinates)))
        mixed = hadamard(self._signs * padded).gather(1, self._order)
        return hadamard(self._gaussian * mixed).flatten()[: self._size]


def hadamard(rows: Tensor) -> Tensor:
    """Multiply each row by the Hadamard matrix of entries 1 and -1 (Walsh-Hadamard transform).

    The matrix is a Kronecker product of smaller ones, with which each row is multiplied in turn.

    Args:
        rows: (N, n), n a power of two.
    """
    shape, rest = rows.shape, rows.shape[1]
    while rest > 1:
        width = min(rest, _WIDEST)
        # The product with the last axis turns it into the first one of a row.
        rows = (rows.reshape(-1, width) @ _HADAMARD[width].to(rows)).view(shape[0], -1, width)
        rows = rows.transpose(1, 2).reshape(shape)
        rest //= width
    return rows


def random_projections(
    sizes: Mapping[str, int], dimension: int, kind: SubspaceKind, seed: int, device: torch.device
) -> dict[str, Projection]:
    """Draw a random matrix of D rows and d columns, divided by rows among tensors.

    Args:
        sizes: numbers of entries of the tensors, by name; their sum is D.
        dimension: d.
        kind: `dense` and `sparse` have columns of length 1 exactly, `fastfood` on average over its
            draws. `sparse` has about sqrt(D) entries per column, `fastfood` needs 16 bytes per row
            and no matrix.
        seed: equal arguments give equal matrices, on every device.
        device: where the products are computed.

    Raises:
        InputError: d is larger than D, or the matrix does not fit in memory.
    """
    total = sum(sizes.values())
    if dimension > total:
        raise InputError(
            f"subspace: must be at most the number of trained weights, {total}, got {dimension}"
        )
    return _DRAW[kind](sizes, dimension, seed, device)


def _dense(
    sizes: Mapping[str, int], dimension: int, seed: int, device: torch.device
) -> dict[str, Projection]:
    if sum(sizes.values()) * dimension > _MOST_NUMBERS:
        raise InputError(
            f"subspace_kind: dense holds weights x subspace numbers, at most {_MOST_NUMBERS}, got "
            f"{sum(sizes.values())} x {dimension}; take fastfood"
        )
    drawn = {
        name: torch.randn(size, dimension, generator=_generator(seed, name))
        for name, size in sizes.items()
    }
    lengths = torch.stack([rows.square().sum(dim=0) for rows in drawn.values()]).sum(dim=0).sqrt()
    return {name: _Matrix((rows / lengths).to(device)) for name, rows in drawn.items()}


def _sparse(
    sizes: Mapping[str, int], dimension: int, seed: int, device: torch.device
) -> dict[str, Projection]:
    total, draw = sum(sizes.values()), _generator(seed, "")
    per_column = max(1, round(math.sqrt(total)))
    if per_column * dimension > _MOST_NUMBERS // 4:  # two indices of 8 bytes per number
        raise InputError(
            f"subspace_kind: sparse holds sqrt(weights) x subspace numbers, at most "
            f"{_MOST_NUMBERS // 4}, got {per_column} x {dimension}; take fastfood"
        )
    rows = torch.randint(total, (dimension * per_column,), generator=draw)
    columns = torch.arange(dimension).repeat_interleave(per_column)
    values = torch.randn(len(rows), generator=draw)
    matrix = torch.sparse_coo_tensor(
        torch.stack([rows, columns]), values, (total, dimension), check_invariants=False
    ).coalesce()  # an entry that was drawn twice is a sum
    places, values = matrix.indices(), matrix.values()
    squares = torch.zeros(dimension).index_add(0, places[1], values.square())
    values = values / squares.sqrt()[places[1]]
    found: dict[str, Projection] = {}
    first = 0
    for name, size in sizes.items():
        start, end = torch.searchsorted(places[0].contiguous(), torch.tensor([first, first + size]))
        own = places[:, start:end] - torch.tensor([[first], [0]])
        part = torch.sparse_coo_tensor(
            own, values[start:end], (size, dimension), is_coalesced=True, check_invariants=False
        )
        found[name] = _Matrix(part.to(device))
        first += size
    return found


def _fastfood(
    sizes: Mapping[str, int], dimension: int, seed: int, device: torch.device
) -> dict[str, Projection]:
    total = sum(sizes.values())
    return {
        name: _Fastfood(size, total, dimension, _generator(seed, name)).to(device)
        for name, size in sizes.items()
    }


def _generator(seed: int, name: str) -> torch.Generator:
    return seeded_generator("subspace", seed, name)


_DRAW: Mapping[SubspaceKind, Callable[..., dict[str, Projection]]] = {
    "fastfood": _fastfood,
    "dense": _dense,
    "sparse": _sparse,
}
