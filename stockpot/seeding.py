"""Random streams identified by names and numbers, independent of what ran before."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) for a stream such as `(seed, "order", epoch)`.

    Equal parts give equal seeds in every process; `1` and `"1"` are different parts.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def phase_seed(seed: int, number: int) -> int:
    """Return the seed of the search of a phase, counted from 1: the first one's is the sweep's."""
    return seed if number <= 1 else derive_seed("phase", seed, number) % 2**31


def seeded_generator(*parts: int | str) -> Generator:
    """Return a CPU generator at the start of the stream identified by `parts`."""
    import torch

    return torch.Generator().manual_seed(derive_seed(*parts))
