"""torch's global random state, which is all that a model's dropout can draw from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator


@contextmanager
def own_random_state(device: str) -> Iterator[None]:
    """Restore the global random state afterwards; each step seeds it inside this fork."""
    kind, index = torch.device(device).type, torch.device(device).index or 0
    with torch.random.fork_rng(devices=[index] if kind == "cuda" else []):
        yield


def global_generator(device: torch.device) -> Generator:
    """Return the generator that a model on `device` draws from."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator
