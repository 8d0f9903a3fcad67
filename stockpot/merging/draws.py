"""Random numbers for the entries of a tensor, any part of which can be drawn on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 2**16  # entries that one generator draws for


@dataclass(frozen=True, slots=True)
class Draws:
    """One random number for each entry of a tensor.

    An entry's number depends on `seed` and its position alone: not on what else is drawn, by
    which thread, or on which device the tensor is.

    Attributes:
        seed: of 64 bits.
        start: position of the first entry that numbers are drawn for.
    """

    seed: int
    start: int = 0

    def at(self, start: int) -> Draws:
        """Return the numbers of the entries from `start` on."""
        return replace(self, start=start)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Draw numbers in [0, 1), evenly spread over multiples of 2^-24.

        Returns:
            A tensor of `shape`, float32, on the CPU.
        """
        import torch

        first, last = self.start, self.start + prod(shape)
        drawn = np.empty(last - first, dtype=np.float32)
        for block in range(first // _BLOCK, -(-last // _BLOCK)):
            low, high = max(first, block * _BLOCK), min(last, (block + 1) * _BLOCK)
            numbers = self._block(block)[low - block * _BLOCK : high - block * _BLOCK]
            drawn[low - first : high - first] = numbers
        drawn *= np.float32(2**-24)
        return torch.from_numpy(drawn).view(torch.Size(shape))

    def _block(self, block: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """Return the 24 leading bits of each of a block's numbers."""
        bits = np.random.SFC64([self.seed, block]).random_raw(_BLOCK // 2)
        return bits.view(np.uint32) >> np.uint32(8)
