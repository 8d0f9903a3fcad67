"""Base of the workloads of images: their classes, their shifts and how they are split.

Importing this module imports no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from stockpot.seeding import seeded_generator
from stockpot.workloads.chosen_shifts import CORRUPTION_NAMES, split_of_shifts
from stockpot.workloads.classification import accuracy, cross_entropies
from stockpot.workloads.protocol import Batch, Metric, Shift, Task

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn
    from torch.utils.data import Dataset


class ImageWorkload(ABC):
    """Images in classes, with seven corruptions as shifts.

    Args:
        seed: fixes the splits and the shifted copies.
        val_shifts: corruptions applied to `val`.
        test_shifts: corruptions applied to `test`; disjoint from `val_shifts`.

    Attributes:
        name: of the workload, for messages and random streams.

    Raises:
        InputError: a shift is unknown or named twice.
    """

    name: ClassVar[str]
    shift_names: ClassVar[tuple[str, ...]] = CORRUPTION_NAMES
    task: Task = "classification"
    metrics: Mapping[str, Metric] = MappingProxyType({"accuracy": accuracy})

    def __init__(self, seed: int, val_shifts: Sequence[str], test_shifts: Sequence[str]) -> None:
        self._seed = seed
        self._shift_splits = split_of_shifts(self.name, val_shifts, test_shifts, self.shift_names)

    @abstractmethod
    def dataset(self, split: str) -> Any:
        """Return images and targets: a `TensorDataset`, unless `_shifted` is overridden."""

    def shifts(self) -> Mapping[str, Shift]:
        """Return the chosen shifts; each copy depends on the seed and its name alone."""
        return {
            name: Shift(split, partial(self._shifted, name, split))
            for name, split in self._shift_splits.items()
        }

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:
        """Flip, rotate, scale, translate and brighten each image at random."""
        from stockpot.workloads.images.image_batches import augmented

        return augmented(batch, strength, generator)

    def corrupt(self, batch: Batch, name: str, generator: Generator) -> Batch:
        """Return a copy of a batch under the corruption `name`, one of `shift_names`."""
        from stockpot.workloads.images.image_batches import corrupted

        images, targets = batch
        return corrupted(images, name, generator), targets

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits; (N, C)."""
        logits: Tensor = model(batch[0])
        return logits

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the cross entropy of each example; (N,)."""
        return cross_entropies(outputs, batch[-1], label_smoothing)

    def _shifted(self, name: str, split: str) -> Dataset[Any]:
        """Return the copy of `split` under the corruption `name`."""
        from torch.utils.data import TensorDataset

        from stockpot.workloads.images.image_batches import corrupted

        images, targets = self.dataset(split).tensors
        generator = seeded_generator(self._seed, f"{self.name} shift", name)
        return TensorDataset(corrupted(images, name, generator), targets)

    def _divided(self, num_images: int, sizes: Mapping[str, int]) -> dict[str, Tensor]:
        """Return the indices of each split, by a random permutation; some may be unused."""
        import torch

        generator = seeded_generator(self._seed, f"{self.name} split")
        order = torch.randperm(num_images, generator=generator)[: sum(sizes.values())]
        return dict(zip(sizes, torch.split(order, [*sizes.values()]), strict=True))
