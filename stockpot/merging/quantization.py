"""Uniform quantization: values as codes of a few bits on an even grid, packed into bytes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Grid:
    """Evenly spaced values, of which each has a code.

    Attributes:
        low: the value of code 0.
        step: the difference between the values of successive codes; 0 if there is one value.
        bits: per code, from 1 to 8.
    """

    low: float
    step: float
    bits: int

    @classmethod
    def between(cls, low: float, high: float, bits: int) -> Grid:
        """Return the grid of 2^bits values from `low` to `high`.

        Source: the uniform quantization of Cai et al. 2023 (https://arxiv.org/abs/2302.12480).
        """
        return cls(low, (high - low) / (2**bits - 1), bits)

    def codes(self, values: Tensor) -> Tensor:
        """Return the code of the nearest grid value; uint8, in the shape of the values."""
        positions = (values.double() - self.low) / (self.step or 1.0)
        return positions.round_().clamp_(0, 2**self.bits - 1).to(torch.uint8)

    def values(self, codes: Tensor) -> Tensor:
        """Return the values of codes; float32. They differ from the coded ones by half a step."""
        return (codes.double() * self.step + self.low).float()


def num_bytes(num_codes: int, bits: int) -> int:
    """Return the number of bytes that packed codes take."""
    return -(-num_codes * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes into bytes, the first code in the highest bits.

    Args:
        codes: (N,), uint8, below 2^bits.
        bits: per code.

    Returns:
        Bytes, uint8; unused bits of the last one are 0.
    """
    if bits == 8:
        return codes
    digits = (codes.unsqueeze(1) >> _shifts(bits)) & 1  # (N, bits)
    missing = -digits.numel() % 8
    flat = torch.cat([digits.reshape(-1), digits.new_zeros(missing)])
    return (flat.view(flat.numel() // 8, 8) << _shifts(8)).sum(dim=1, dtype=torch.uint8)


def unpack(packed: Tensor, bits: int, skipped: int, num_codes: int) -> Tensor:
    """Return codes from packed bytes.

    Args:
        packed: bytes, uint8.
        bits: per code.
        skipped: number of bits before the first code.
        num_codes: N.

    Returns:
        The codes; (N,), uint8.
    """
    if bits == 8:
        return packed[:num_codes]
    digits = ((packed.unsqueeze(1) >> _shifts(8)) & 1).reshape(-1)
    own = digits[skipped : skipped + num_codes * bits].view(num_codes, bits)
    return (own << _shifts(bits)).sum(dim=1, dtype=torch.uint8)


def _shifts(bits: int) -> Tensor:
    return torch.arange(bits - 1, -1, -1, dtype=torch.uint8)
