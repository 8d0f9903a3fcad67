"""Which entries of a tensor are kept at random; any part of it can be drawn on its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 2**18  # entries that one generator draws for


@dataclass(frozen=True, slots=True)
class Draws:
    """A decision at random for each entry of a tensor.

    An entry's depends on `seed` and its position alone: not on what else is drawn, by which
    thread, or on which device the tensor is.

    Attributes:
        seed: of 64 bits.
        start: position of the first entry that is decided on.
    """

    seed: int
    start: int = 0

    def at(self, start: int) -> Draws:
        """Return the decisions on the entries from `start` on."""
        return replace(self, start=start)

    def kept(self, probability: float | Tensor, like: Tensor) -> Tensor:
        """Decide which entries of a tensor are kept.

        Args:
            probability: in [0, 1], one for all entries or one each.
            like: the tensor.

        Returns:
            1 or 0 for each entry; shape, dtype and device of `like`.
        """
        import torch

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
        """Decide on the entries from `first` to `last` of a block.

        Of a random number the 16 leading bits nearly always decide; the others are drawn only
        where they do not, for one entry in 65536.
        """
        bits = np.random.SFC64([self.seed, block]).random_raw(_BLOCK // 4).view(np.uint16)
        leading = bits[first - block * _BLOCK : last - block * _BLOCK]
        scaled = np.multiply(probability, 65536.0)
        # An int is compared in 16 bits.
        whole = scaled.astype(np.int32) if scaled.ndim else int(scaled)
        decided: NDArray[np.bool_] = leading < whole
        for entry in np.flatnonzero(leading == whole):
            rest = (scaled - whole).flat[entry if scaled.ndim else 0]
            decided[entry] = self._further(first + int(entry)) < rest
        return decided

    def _further(self, position: int) -> float:
        """Return the number in [0, 1) that the further bits of an entry's are."""
        digest = hashlib.blake2b(f"{self.seed} {position}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64
