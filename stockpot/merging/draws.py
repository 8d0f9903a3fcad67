"""Random masks of tensors; any part of a mask can be computed on its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BLOCK = 2**18  # entries per generator


@dataclass(frozen=True, slots=True)
class Draws:
    """Random numbers for the entries of a tensor.

    The number of an entry depends on `seed` and its position only: not on other draws, threads or
    the device of the tensor.

    Attributes:
        seed: 64 bits.
        start: position of the first entry.
    """

    seed: int
    start: int = 0

    def at(self, start: int) -> Draws:
        """Return the random numbers of the entries from `start` on."""
        return replace(self, start=start)

    def kept(self, probability: float | Tensor, like: Tensor) -> Tensor:
        """Return a random mask of entries to keep.

        Args:
            probability: of keeping an entry, in [0, 1], for all entries or per entry.
            like: the tensor.

        Returns:
            1 or 0 for each entry; shape, dtype and device of `like`.
        """
        first, last = self.start, self.start + like.numel()
        kept = np.empty(last - first, dtype=np.bool_)
        each = None
        if not isinstance(probability, float | int):
            each = probability.reshape(-1).cpu().numpy()
        for block in range(first // _BLOCK, -(-last // _BLOCK)):
            low, high = max(first, block * _BLOCK), min(last, (block + 1) * _BLOCK)
            own = probability if each is None else each[low - first : high - first]
            self._decide(block, low, high, own, kept[low - first : high - first])
        bytes_of_1 = torch.from_numpy(kept.view(np.uint8))
        return bytes_of_1.to(like.device).to(like.dtype).view(like.shape)

    def _decide(
        self, block: int, first: int, last: int, probability: Any, kept: NDArray[np.bool_]
    ) -> None:
        """Write the mask of the entries from `first` to `last` of a block to `kept`.

        The 8 leading bits of a random number nearly always decide; further bits are drawn only
        where they do not, for one entry in 256.
        """
        bits = np.random.SFC64([self.seed, block]).random_raw(_BLOCK // 8).view(np.uint8)
        leading = bits[first - block * _BLOCK : last - block * _BLOCK]
        scaled = np.multiply(probability, 256)  # exact
        whole = np.minimum(scaled, 255).astype(np.uint8)  # of probability 1, the rest is 1
        np.less(leading, whole, out=kept)
        undecided = np.flatnonzero(leading == whole)
        rest = np.broadcast_to(scaled - whole, leading.shape)[undecided]
        kept[undecided] = self._further(undecided + first) < rest

    def _further(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the further bits of entries' random numbers, as numbers in [0, 1).

        The generator is SplitMix64 (Steele et al. 2014, https://doi.org/10.1145/2660193.2660195),
        whose n-th number is computed from n alone.
        """
        with np.errstate(over="ignore"):
            mixed = positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            mixed += np.uint64(self.seed)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) / 2.0**53
