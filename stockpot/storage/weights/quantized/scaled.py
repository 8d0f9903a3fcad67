"""Codes of 8 or 4 bits times the scales of their blocks: the weights that they stand for.

Sources: the float8 formats of Micikevicius et al. 2022 (https://arxiv.org/abs/2209.05433); the
block scales of DeepSeek-AI 2024 (https://arxiv.org/abs/2412.19437, section 3.3.2); E2M1, E8M0 and
blocks of 32 from the OCP Microscaling Formats specification 1.0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stockpot.storage.weights.sources import Source

MX_GROUP = 32  # codes of one scale in the microscaling formats
_MOST = 2**20  # entries that are computed at once, to bound memory

# The values of the 16 codes of E2M1: a sign, two bits of exponent, one bit of mantissa.
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
_PAIRS = torch.tensor([[_E2M1[byte & 15], _E2M1[byte >> 4]] for byte in range(256)])  # (256, 2)


class Rule(Protocol):
    """How one weight is computed from the tensors that are stored for it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the stored tensors, the codes first."""

    @property
    def is_packed(self) -> bool:
        """Whether codes have 4 bits."""

    def rows(self, stored: Source, first: int, last: int) -> Tensor:
        """Return rows [first, last) of the weight as a matrix (rows, last dimension); float32."""


@dataclass(frozen=True, slots=True)
class ScaledBlocks:
    """Codes times the scale of their block.

    A weight is code * scale, rounded once to float32; with a second scale, for all of the tensor,
    code * (scale * second) or code * (scale / second).

    Attributes:
        codes: name of the codes: float8, or two E2M1 codes per byte, the first in the low bits.
        scales: name of the scales; as many dimensions as the weight, or one element.
        shape: of the weight.
        grid: number of blocks in each dimension.
        block: size of a block in each dimension; the last block of a dimension may be smaller.
        is_packed: whether bytes hold two codes.
        second: name of the scale for all of the tensor; empty for none.
        divides: whether the second scale is a divisor.
    """

    codes: str
    scales: str
    shape: tuple[int, ...]
    grid: tuple[int, ...]
    block: tuple[int, ...]
    is_packed: bool = False
    second: str = ""
    divides: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the stored tensors, the codes first."""
        return (self.codes, self.scales, *([self.second] if self.second else []))

    def rows(self, stored: Source, first: int, last: int) -> Tensor:
        """Return rows [first, last) of the weight as a matrix (rows, last dimension); float32."""
        num_columns = self.shape[-1] if self.shape else 1
        rows = torch.empty(last - first, num_columns)
        for start, end in _pieces(first, last, num_columns):
            rows[start - first : end - first] = self._piece(stored, start, end, num_columns)
        return rows

    def _piece(self, stored: Source, first: int, last: int, num_columns: int) -> Tensor:
        per_byte = 2 if self.is_packed else 1
        codes = stored.read_run(
            self.codes, first * num_columns // per_byte, last * num_columns // per_byte
        )
        values = unpacked(codes) if self.is_packed else codes.float()
        values = values.view(last - first, num_columns)
        scales = self._scales(stored, first, last)  # (rows, blocks of a row)
        if scales.shape[1] > 1:
            scales = scales.repeat_interleave(self.block[-1], dim=1)[:, :num_columns]
        return values.mul_(scales)

    def _scales(self, stored: Source, first: int, last: int) -> Tensor:
        """Return the scales of each row, with the second scale; (rows, blocks of a row)."""
        rest, place, stride = torch.arange(first, last), torch.zeros(last - first).long(), 1
        for size, block, count in reversed(
            list(zip(self.shape[:-1], self.block[:-1], self.grid[:-1], strict=True))
        ):
            place += rest % size // block * stride
            rest, stride = rest // size, stride * count
        width = self.grid[-1] if self.grid else 1
        low, high = int(place.min()), int(place.max()) + 1
        scales = as_float(stored.read_run(self.scales, low * width, high * width))
        if self.second:
            second = stored.read(self.second).float().reshape(())
            scales = scales / second if self.divides else scales * second
        return scales.view(-1, width)[place - low]


@dataclass(frozen=True, slots=True)
class TransposedExperts:
    """MXFP4 experts as GPT-OSS stores them: E2M1 blocks of 32 inputs, transposed when loaded.

    Source: transformers, which loads (experts, outputs, blocks, 16 bytes) as (experts, inputs,
    outputs).

    Attributes:
        codes: name of the blocks.
        scales: name of the E8M0 scales, (experts, outputs, blocks).
        shape: of the weight, (experts, inputs, outputs).
    """

    codes: str
    scales: str
    shape: tuple[int, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the stored tensors, the codes first."""
        return self.codes, self.scales

    @property
    def is_packed(self) -> bool:
        """Whether codes have 4 bits."""
        return True

    def rows(self, stored: Source, first: int, last: int) -> Tensor:
        """Return rows [first, last) of the weight as a matrix (rows, outputs); float32."""
        _, num_inputs, num_outputs = self.shape
        blocks, scales = stored.read(self.codes), stored.read(self.scales)
        rows = torch.empty(last - first, num_outputs)
        for expert in range(first // num_inputs, -(-last // num_inputs)):
            begin = max(first - expert * num_inputs, 0)
            end = min(last - expert * num_inputs, num_inputs)
            one, other = begin // MX_GROUP, -(-end // MX_GROUP)
            values = unpacked(blocks[expert, :, one:other].reshape(-1))
            values = values.view(num_outputs, other - one, MX_GROUP)
            values *= as_float(scales[expert, :, one:other].contiguous()).unsqueeze(2)
            skipped, place = one * MX_GROUP, expert * num_inputs - first
            rows[place + begin : place + end] = values.flatten(1).T[begin - skipped : end - skipped]
        return rows


def unpacked(packed: Tensor) -> Tensor:
    """Return the values of E2M1 codes, two per byte, the first in the low bits; float32."""
    return _PAIRS[packed.view(torch.uint8).int()].view(-1)


def as_float(scales: Tensor) -> Tensor:
    """Return scales as float32; bytes are exponents of E8M0, of which 255 is not a number."""
    return (scales.view(torch.float8_e8m0fnu) if scales.dtype == torch.uint8 else scales).float()


def _pieces(first: int, last: int, num_columns: int) -> Iterator[tuple[int, int]]:
    """Split rows into pieces of bounded size."""
    step = max(_MOST // max(num_columns, 1), 1)
    for start in range(first, last, step):
        yield start, min(start + step, last)


def block_sizes(
    shape: tuple[int, ...], grid: tuple[int, ...], stated: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """Return the size of blocks in each dimension; None if the scales do not fit the weight.

    One scale covers a dimension; as many as entries have blocks of 1. Else blocks have the stated
    size (without a statement, 128), if that gives this number of blocks, or divide evenly.

    Args:
        shape: of the weight.
        grid: number of scales in each dimension.
        stated: sizes of blocks of the last dimensions; None if not known.
    """
    default = (128,) * 2 if stated is None else stated
    likely = (0,) * (len(shape) - len(default)) + default[-len(shape) or len(default) :]
    sizes = []
    for size, count, block in zip(shape, grid, likely, strict=True):
        if count == 1 or size == 0:
            sizes.append(max(size, 1))
        elif block > 0 and math.ceil(size / block) == count:
            sizes.append(block)
        elif count > 0 and size % count == 0:
            sizes.append(size // count)
        else:
            return None
    return tuple(sizes)
