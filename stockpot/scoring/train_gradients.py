"""Losses on two halves of train with their gradients, for a search that trains ingredients too."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.scoring.val_gradients import Objective, Split
from stockpot.seeding import seeded_generator
from stockpot.workloads.batches import num_examples
from stockpot.workloads.protocol import Batch, Task, Workload


class TrainHalves(Split):
    """Two halves of train by the seed: the first trains weights, the second coefficients.

    The model is in eval mode, and examples are not augmented.
    """

    _split, _search, _purpose = "train", "search and merge", "weights"
    _tasks: tuple[Task, ...] = ("classification", "regression", "language_model")

    def __init__(self, workload: Workload, device: str, *, batch_size: int, seed: int) -> None:
        """Open train and split it; an odd example is in the first half.

        Raises:
            InputError: train has fewer than 2 examples.
        """
        super().__init__(workload, device, batch_size=batch_size, seed=seed)
        count = num_examples(self._data)
        if count < 2:
            raise InputError(f"search and merge: train must have at least 2 examples, got {count}")
        order = torch.randperm(count, generator=seeded_generator(seed, "halves of train"))
        self._first, self._second = order.tensor_split([(count + 1) // 2])

    def pairs(self, number: int) -> Iterator[tuple[Objective, Objective]]:
        """Yield the objectives on a batch of each half, as long as both have one."""
        first = self._batches_of(self._first, "weights", number)
        return zip(first, self._batches_of(self._second, "coefficients", number), strict=False)

    def _objective(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self._workload.loss(outputs, batch).mean()
