"""Losses on val with their gradients, for searches by gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.seeding import seeded_generator
from stockpot.workloads.batches import batches_by_length, num_examples, take, to_device
from stockpot.workloads.passes import empty_model, put_weights
from stockpot.workloads.protocol import Batch, Task, Workload

_BATCH = 1024  # of passes without gradients

Weights = dict[str, Tensor]
"""Weights of a model, or their gradients, by name."""

Objective = Callable[[Weights, float], tuple[float, Weights, float]]
"""Weights, and a factor on the outputs -> what is minimized, and both gradients."""


class Split(ABC):
    """A split on the device, and a model in eval mode whose weights are replaced."""

    _split: str = "val"
    _search: str
    _purpose: str
    _tasks: tuple[Task, ...]

    def __init__(self, workload: Workload, device: str, *, batch_size: int, seed: int) -> None:
        """Open the split, and no other data of the workload.

        Raises:
            InputError: the search is not for outputs of the workload's task.
        """
        if workload.task not in self._tasks:
            raise InputError(
                f"{self._search}: must have a workload of {' or '.join(self._tasks)}, got the "
                f"task {workload.task!r}; use search: optuna"
            )
        self._workload, self._device = workload, device
        self._model = empty_model(workload, device)
        self._data = to_device(workload.dataset(self._split), device)
        self._batch_size, self._seed = batch_size, seed
        self._searched = torch.arange(num_examples(self._data))

    def batches(self, number: int) -> Iterator[Objective]:
        """Yield the objective on each batch of a pass, in an order that depends on its number."""
        return self._batches_of(self._searched, self._purpose, number)

    def _batches_of(self, rows: Tensor, purpose: str, number: int) -> Iterator[Objective]:
        generator = seeded_generator(self._seed, f"{purpose} on {self._split}", number)
        order = torch.randperm(len(rows), generator=generator)
        for indices in torch.split(rows[order], self._batch_size):
            yield partial(self._gradients, indices)

    def _gradients(
        self, indices: Tensor, weights: Weights, beta: float
    ) -> tuple[float, Weights, float]:
        put_weights(self._model, weights)
        batch = self._batch(indices)
        scale = torch.tensor(beta, device=self._device, requires_grad=True)
        value = self._objective(scale * self._workload.forward(self._model, batch), batch)
        trained = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
        wanted = [scale, *trained.values()]
        slope, *slopes = torch.autograd.grad(value, wanted, materialize_grads=True)
        return value.item(), dict(zip(trained, slopes, strict=True)), slope.item()

    @abstractmethod
    def _objective(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean over a batch of what is minimized."""

    def _batch(self, indices: Tensor) -> Batch:
        return tuple(tensor.to(self._device) for tensor in take(self._data, indices))


class LabelledVal(Split):
    """Two halves of val: one to fit coefficients on by the loss, one to choose between fits.

    The outputs of a language model are losses, which cannot be scaled.
    """

    _search, _purpose = "learned soup", "fit"
    _tasks: tuple[Task, ...] = ("classification", "regression")

    def __init__(self, workload: Workload, device: str, *, batch_size: int, seed: int) -> None:
        """Open val and split it by the seed; an odd example is for the fit.

        Raises:
            InputError: val has fewer than 2 examples, or outputs cannot be scaled.
        """
        super().__init__(workload, device, batch_size=batch_size, seed=seed)
        self._metric = next(iter(workload.metrics.values()))
        count = num_examples(self._data)
        if count < 2:
            raise InputError(f"learned soup: val must have at least 2 examples, got {count}")
        order = torch.randperm(count, generator=seeded_generator(seed, "halves of val"))
        self._searched, self._choice = order.tensor_split([(count + 1) // 2])

    def judge(self, weights: Weights, beta: float) -> tuple[float, float, float]:
        """Score weights, whose outputs are multiplied by `beta`, on both halves.

        Returns:
            The metric and the loss on the half to choose on, and the loss on the other half.
        """
        put_weights(self._model, weights)
        score, loss = self._evaluate(self._choice, beta)
        return score, loss, self._evaluate(self._searched, beta)[1]

    def _objective(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self._workload.loss(outputs, batch).mean()

    def _evaluate(self, indices: Tensor, beta: float) -> tuple[float, float]:
        """Return the mean metric and the mean loss, computed in float64."""
        values, losses = [], []
        with torch.inference_mode():
            for part in batches_by_length(self._data, indices, _BATCH, self._device):
                batch = self._batch(part)
                outputs = beta * self._workload.forward(self._model, batch)
                values.append(self._metric(outputs, batch[-1]).double())
                losses.append(self._workload.loss(outputs, batch).double())
        return float(torch.cat(values).mean()), float(torch.cat(losses).mean())


class UnlabelledVal(Split):
    """The inputs of val, for the entropy of predictions; no result depends on targets."""

    _search, _purpose = "adamerging", "entropy"
    _tasks: tuple[Task, ...] = ("classification",)

    def class_entropy(self, weights: Weights) -> float:
        """Return the entropy, in nats, of the distribution of predicted classes."""
        put_weights(self._model, weights)
        with torch.inference_mode():
            parts = batches_by_length(self._data, self._searched, _BATCH, self._device)
            batches = (self._batch(part) for part in parts)
            outputs = torch.cat([self._workload.forward(self._model, b) for b in batches])  # (N, C)
        counts = torch.bincount(outputs.argmax(dim=1), minlength=outputs.shape[1])
        shares = counts.double() / len(outputs)
        return float(torch.special.entr(shares).sum())

    def _objective(self, outputs: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002
        log_shares = outputs.log_softmax(dim=1)  # (N, C)
        return -(log_shares.exp() * log_shares).sum(dim=1).mean()

    def _batch(self, indices: Tensor) -> Batch:
        *inputs, targets = super()._batch(indices)
        return (*inputs, torch.zeros_like(targets))
