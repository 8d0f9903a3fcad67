"""Random examples of train for statistics of models."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from stockpot.seeding import seeded_generator
from stockpot.workloads.batches import num_examples, take
from stockpot.workloads.protocol import Batch, Workload

BATCH = 32  # small: unfolded inputs of a convolution are many times as large


def train_batches(workload: Workload, n: int, *, seed: int, device: str) -> Iterator[Batch]:
    """Yield `n` examples of train in batches on the device, sampled without replacement.

    Yields all of train if it has fewer. Equal seeds give the same examples for every model.
    """
    dataset = workload.dataset("train")
    generator = seeded_generator(seed, "train examples")
    chosen = torch.randperm(num_examples(dataset), generator=generator)[:n]
    for part in torch.split(chosen, BATCH):
        yield tuple(tensor.to(device) for tensor in take(dataset, part))
