"""torch's global random state, from which dropout layers draw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator


@contextmanager
def preserved_random_state(device: str) -> Iterator[None]:
    """Restore the global random state afterwards; each training step seeds it inside."""
    kind, index = torch.device(device).type, torch.device(device).index or 0
    with torch.random.fork_rng(devices=[index] if kind == "cuda" else []):
        yield


def global_generator(device: torch.device) -> Generator:
    """Return the global generator of a device, which its models draw from."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator
