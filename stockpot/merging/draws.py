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
        scaled: Any = 256.0 * probability  # exact
        if not isinstance(scaled, float):
            scaled = scaled.reshape(-1).cpu().numpy()
        leading = self.leading(like.numel())
        whole = np.minimum(scaled, 255).astype(np.uint8)  # of probability 1, the rest is 1
        kept = np.less(leading, whole)
        rest = scaled - whole
        if np.any(rest):
            undecided = np.flatnonzero(leading == whole)
            own = np.broadcast_to(rest, leading.shape)[undecided]
            kept[undecided] = self.further(undecided) < own
        return self.mask(kept, like)

    @staticmethod
    def mask(kept: NDArray[np.bool_], like: Tensor) -> Tensor:
        """Return a mask as 1 and 0; shape, dtype and device of `like`."""
        return torch.from_numpy(kept.view(np.uint8)).to(like.device, like.dtype).view(like.shape)

    def leading(self, number: int) -> NDArray[np.uint8]:
        """Return the 8 leading bits of the random numbers of this many entries.

        They nearly always decide; further bits are needed only where they do not, for one entry in
        256.
        """
        first, last = self.start, self.start + number
        drawn = [np.empty(0, np.uint64)]
        for block in range(first // _BLOCK, -(-last // _BLOCK)):
            length = min(_BLOCK, last - block * _BLOCK)
            drawn.append(np.random.SFC64([self.seed, block]).random_raw(-(-length // 8)))
        bits = drawn[1] if len(drawn) == 2 else np.concatenate(drawn)
        return bits.view(np.uint8)[first % _BLOCK :][:number]

    def further(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the further bits of entries' random numbers, as numbers in [0, 1).

        Places are counted from `start`.

        The generator is SplitMix64 (Steele et al. 2014, https://doi.org/10.1145/2660193.2660195),
        whose n-th number is computed from n alone.
        """
        with np.errstate(over="ignore"):
            mixed = (places + self.start).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            mixed += np.uint64(self.seed)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) / 2.0**53
