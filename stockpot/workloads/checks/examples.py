"""Examples of a dataset: all of them in batches, samples, and digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Dataset

from stockpot.workloads.batches import num_examples, take
from stockpot.workloads.protocol import Batch

_PART = 1024
_SAMPLE = 128  # enough to find errors that all have; fast even if each is a file


def parts_of(dataset: Dataset[Any]) -> Iterator[Batch]:
    """Yield all examples in batches, in order."""
    return (take(dataset, part) for part in torch.split(torch.arange(num_examples(dataset)), _PART))


def sample(dataset: Dataset[Any]) -> Batch:
    """Return evenly spaced examples as one batch, the first and last included."""
    last = num_examples(dataset) - 1
    return take(dataset, torch.linspace(0, last, min(_SAMPLE, last + 1)).round().long())


def digests(batch: Batch) -> list[bytes]:
    """Return the digest of each example of a batch: of inputs and target."""
    rows = [tensor.cpu().contiguous().view(len(tensor), -1).numpy() for tensor in batch]
    return [
        hashlib.blake2b(b"\0".join(row[i].tobytes() for row in rows), digest_size=16).digest()
        for i in range(len(batch[-1]))
    ]


def copied(batch: Batch) -> Batch:
    """Copy a batch."""
    return tuple(tensor.clone() for tensor in batch)


def equal(first: Batch, second: Batch) -> bool:
    """Return whether two batches are equal bit for bit."""
    return len(first) == len(second) and all(map(torch.equal, first, second))
