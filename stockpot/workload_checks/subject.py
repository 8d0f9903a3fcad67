"""The workload under check, its examples and their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from stockpot.seeding import seeded_generator
from stockpot.workloads.batches import num_examples, take
from stockpot.workloads.protocol import Batch, Workload
from stockpot.workloads.registry import build_workload
from stockpot.workloads.spec import WorkloadSpec

SPLITS = ("pretrain", "train", "val", "test")
BATCH_SIZE = 32

_SAMPLE = 128  # examples of a split that are compared where all of them would take long


def build(spec: WorkloadSpec) -> Workload:
    """Build a workload anew: `spec.build()` would give the one that was built before."""
    return build_workload(
        spec.name,
        seed=spec.seed,
        val_shifts=spec.val_shifts,
        test_shifts=spec.test_shifts,
        options=dict(spec.options),
    )


def batches_of(dataset: Dataset[Any], size: int = 1024) -> Iterator[Batch]:
    """Yield all examples in their order."""
    return (take(dataset, part) for part in torch.arange(num_examples(dataset)).split(size))


def sample(dataset: Dataset[Any]) -> Batch:
    """Return examples from everywhere in a data set as one batch, the first and last included."""
    last = num_examples(dataset) - 1
    return take(dataset, torch.linspace(0, last, min(_SAMPLE, last + 1)).round().long())


def digests(batch: Batch) -> list[bytes]:
    """Hash each example of a batch: its inputs and its target."""
    rows = [tensor.contiguous().flatten(1) if tensor.ndim > 1 else tensor for tensor in batch]
    arrays = [tensor.cpu().numpy() for tensor in rows]
    return [
        hashlib.blake2b(b"\0".join(array[i].tobytes() for array in arrays), digest_size=16).digest()
        for i in range(len(batch[-1]))
    ]


def sampled_digests(workload: Workload) -> dict[str, list[bytes]]:
    """Hash a sample of every split and shift, by name."""
    datasets = {split: workload.dataset(split) for split in SPLITS}
    datasets |= {f"shift {n}": shift.dataset() for n, shift in workload.shifts().items()}
    return {name: digests(sample(dataset)) for name, dataset in datasets.items()}


@dataclass
class Subject:
    """A workload, and what several checks look at."""

    spec: WorkloadSpec
    workload: Workload = field(init=False)

    def __post_init__(self) -> None:
        self.workload = build(self.spec)

    @cached_property
    def again(self) -> Workload:
        """The workload, built a second time."""
        return build(self.spec)

    @cached_property
    def samples(self) -> dict[str, Batch]:
        """Examples of each split."""
        return {split: sample(self.workload.dataset(split)) for split in SPLITS}

    @property
    def batch(self) -> Batch:
        """A few examples of train."""
        return tuple(tensor[:BATCH_SIZE] for tensor in self.samples["train"])

    def model(self, seed: int = 0) -> nn.Module:
        """Build a model."""
        return self.workload.build_model(seeded_generator("check of a workload", seed))

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Pass a batch in eval mode, without gradients."""
        with torch.no_grad():
            return self.workload.forward(model.eval(), batch)

    def without_shifts(self) -> Workload:
        """Build the workload with no shift at all."""
        return build(replace(self.spec, val_shifts=(), test_shifts=()))


def copied(batch: Batch) -> Batch:
    """Copy a batch."""
    return tuple(tensor.clone() for tensor in batch)


def equal(first: Batch, second: Batch) -> bool:
    """Say whether two batches are the same bit for bit."""
    return len(first) == len(second) and all(map(torch.equal, first, second))
