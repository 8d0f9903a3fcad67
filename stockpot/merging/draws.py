"""Random masks of tensors; any part of a mask can be computed on its own."""

from __future__ import annotations

import hashlib
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
            each = probability.reshape(-1).double().cpu().numpy()
        for block in range(first // _BLOCK, -(-last // _BLOCK)):
            low, high = max(first, block * _BLOCK), min(last, (block + 1) * _BLOCK)
            own = probability if each is None else each[low - first : high - first]
            kept[low - first : high - first] = self._decided(block, low, high, own)
        bytes_of_1 = torch.from_numpy(kept.view(np.uint8))
        return bytes_of_1.to(like.device).to(like.dtype).view(like.shape)

    def _decided(self, block: int, first: int, last: int, probability: Any) -> NDArray[np.bool_]:
        """Return the mask of the entries from `first` to `last` of a block.

        The 16 leading bits of a random number nearly always decide; further bits are drawn only
        where they do not, for one entry in 65536.
        """
        bits = np.random.SFC64([self.seed, block]).random_raw(_BLOCK // 4).view(np.uint16)
        leading = bits[first - block * _BLOCK : last - block * _BLOCK]
        scaled = np.multiply(probability, 65536.0)
        # An int is compared as 16 bits.
        whole = scaled.astype(np.int32) if scaled.ndim else int(scaled)
        decided: NDArray[np.bool_] = leading < whole
        for entry in np.flatnonzero(leading == whole):
            rest = (scaled - whole).flat[entry if scaled.ndim else 0]
            decided[entry] = self._further(first + int(entry)) < rest
        return decided

    def _further(self, position: int) -> float:
        """Return the further bits of an entry's random number, as a number in [0, 1)."""
        digest = hashlib.blake2b(f"{self.seed} {position}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64
