"""Learning from aggregate responses: of a bag of examples only the mean target is known.

Javanmard et al. 2024, https://openreview.net/forum?id=E60SIDItyT. The bag loss compares that mean
with the mean prediction, the instance loss with each prediction; `rho` interpolates between them.
For the squared error the instance loss is the bag loss plus the variance of predictions within the
bag.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.mixup import MixedBatch
from stockpot.seeding import seeded_generator
from stockpot.workloads.protocol import Batch, Workload

Loss: TypeAlias = Callable[[Tensor, Batch], Tensor]


class Bags:
    """The examples of a run in bags, drawn once by the run's seed; one may be smaller."""

    def __init__(self, num_examples: int, how: Hyperparameters) -> None:
        """Draw the bags of a run's examples, by `bag_size` and the seed.

        Raises:
            InputError: there are too few examples.
        """
        if how.bag_size > num_examples:
            raise InputError(
                f"bag_size: must be at most the number of examples, {num_examples}, got "
                f"{how.bag_size}"
            )
        self._how = how
        order = torch.randperm(num_examples, generator=seeded_generator(how.seed, "bags"))
        self._members = torch.split(order, how.bag_size)
        self._bag_of = torch.empty(num_examples, dtype=torch.long)
        for number, members in enumerate(self._members):
            self._bag_of[members] = number

    def batches(self, generator: Generator) -> tuple[Tensor, ...]:
        """Return the indices of each batch of an epoch: whole bags, in a random order."""
        order = torch.randperm(len(self._members), generator=generator)
        per_batch = self._how.batch_size // self._how.bag_size
        return tuple(
            torch.cat([self._members[number] for number in part.tolist()])
            for part in torch.split(order, per_batch)
        )

    def losses(self, workload: Workload, outputs: Tensor, mixed: MixedBatch) -> Tensor:
        """Return (1 - rho) * bag loss + rho * instance loss of each example; (N,).

        Args:
            workload: has the loss, an expectation over targets: cross entropy of logits, or the
                squared error.
            outputs: (N, ...) of the examples, the members of a bag next to each other.
            mixed: the unmixed batch, with its rows.

        For classes the mean target is the share of each, the loss is the cross entropy, and a bag's
        mean prediction is that of the probabilities.
        """
        assert mixed.rows is not None
        rho, batch = self._how.rho, mixed.first
        loss = partial(workload.loss, label_smoothing=self._how.label_smoothing)
        bags = self._bag_of.to(mixed.rows.device)[mixed.rows]
        _, bag, counts = torch.unique_consecutive(bags, return_inverse=True, return_counts=True)
        if workload.task == "regression":
            batch = (*batch[:-1], _means(batch[-1].to(outputs), bag, counts)[bag])
            instance = loss(outputs, batch)
            means = _means(outputs, bag, counts)
        else:
            instance = _of_all_labels(loss, outputs, batch, bag, counts)
            means = _mean_probabilities(outputs, counts)
        return (1 - rho) * loss(means[bag], batch) + rho * instance


def _of_all_labels(
    loss: Loss, outputs: Tensor, batch: Batch, bag: Tensor, counts: Tensor
) -> Tensor:
    """Return each example's mean loss over all labels of its bag: that of their shares."""
    first = (counts.cumsum(0) - counts)[bag]
    place, size = torch.arange(len(bag), device=bag.device) - first, counts[bag]
    total = torch.zeros_like(outputs[:, 0])
    for step in range(int(counts.max())):
        labels = batch[-1][first + (place + step) % size]
        total = total + (step < size) * loss(outputs, (*batch[:-1], labels))
    return total / size


def _means(values: Tensor, bag: Tensor, counts: Tensor) -> Tensor:
    """Return the mean of each bag's values (N, ...), by a product: sums by index vary on GPUs."""
    is_member = torch.arange(len(counts), device=bag.device).unsqueeze(1) == bag
    shares = is_member.to(values) / counts.unsqueeze(1)
    return (shares @ values.reshape(len(values), -1)).view(len(counts), *values.shape[1:])


def _mean_probabilities(logits: Tensor, counts: Tensor) -> Tensor:
    """Return the logarithm of each bag's mean probabilities; (bags, C)."""
    bags = torch.split(logits.log_softmax(dim=-1), counts.tolist())
    return torch.stack([bag.logsumexp(dim=0) - math.log(len(bag)) for bag in bags])
