"""The workload under check, with samples that several checks use."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from stockpot.plugins import Skipped
from stockpot.seeding import seeded_generator
from stockpot.workloads.checks.examples import digests, sample
from stockpot.workloads.protocol import Batch, Shift, Workload, splits_of
from stockpot.workloads.spec import WorkloadSpec

_BATCH_SIZE = 32


def sampled_digests(workload: Workload) -> dict[str, list[bytes]]:
    """Return digests of sampled examples of every split and shift, by name."""
    datasets = {f"dataset({split!r})": workload.dataset(split) for split in splits_of(workload)}
    datasets |= {f"shift {n!r}": shift.dataset() for n, shift in workload.shifts().items()}
    return {name: digests(sample(dataset)) for name, dataset in datasets.items()}


@dataclass
class CheckedWorkload:
    """A workload with samples that several checks use."""

    spec: WorkloadSpec
    workload: Workload = field(init=False)

    def __post_init__(self) -> None:
        self.workload = self.spec.build_again()

    @cached_property
    def rebuilt(self) -> Workload:
        """A second workload of the same specification."""
        return self.spec.build_again()

    @cached_property
    def samples(self) -> dict[str, Batch]:
        """Some examples of each split."""
        return {split: sample(self.workload.dataset(split)) for split in splits_of(self.workload)}

    @property
    def batch(self) -> Batch:
        """A few examples of train."""
        return tuple(tensor[:_BATCH_SIZE] for tensor in self.samples["train"])

    def model(self) -> nn.Module:
        """Build a new model, from an equal generator each time."""
        return self.workload.build_model(seeded_generator("check of a workload"))

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the outputs on a batch in eval mode, without gradients."""
        with torch.no_grad():
            return self.workload.forward(model.eval(), batch)

    def shifts(self) -> dict[str, Shift]:
        """Return the shifts.

        Raises:
            Skipped: there are none.
        """
        shifts = {**self.workload.shifts()}
        if not shifts:
            raise Skipped("no shifts are chosen")
        return shifts

    def without_shifts(self) -> Workload:
        """Build the workload without shifts."""
        return replace(self.spec, val_shifts=(), test_shifts=()).build_again()
