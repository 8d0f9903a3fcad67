"""Losses on val with their gradients, for searches by gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from stockpot.errors import InputError
from stockpot.seeding import seeded_generator
from stockpot.workloads.batches import batches_by_length, num_examples, take, to_device
from stockpot.workloads.passes import empty_model, put_weights
from stockpot.workloads.protocol import Batch, Workload

_BATCH = 1024  # of passes without gradients

Weights = dict[str, Tensor]
"""Weights of a model, or their gradients, by name."""


class _Val:
    """Val on the device, and a model in eval mode whose weights are replaced."""

    def __init__(self, workload: Workload, device: str, *, batch_size: int, seed: int) -> None:
        """Open val, and no other data of the workload."""
        self._workload, self._device = workload, device
        self._model = empty_model(workload, device)
        self._data = to_device(workload.dataset("val"), device)
        self._batch_size, self._seed = batch_size, seed

    def _batch(self, indices: Tensor) -> Batch:
        return tuple(tensor.to(self._device) for tensor in take(self._data, indices))

    def _shuffled(self, indices: Tensor, purpose: str, number: int) -> Iterator[Tensor]:
        """Yield the batches of a pass over `indices`, in an order that depends on its number."""
        generator = seeded_generator(self._seed, purpose, number)
        order = torch.randperm(len(indices), generator=generator)
        yield from torch.split(indices[order], self._batch_size)


class LabelledVal(_Val):
    """Two halves of val: one to fit coefficients on, one to choose between fits."""

    def __init__(self, workload: Workload, device: str, *, batch_size: int, seed: int) -> None:
        """Open val and split it by the seed; an odd example is for the fit.

        Raises:
            InputError: val has fewer than 2 examples, or outputs are losses, so not scalable.
        """
        if workload.task == "language_model":
            raise InputError(
                "learned soup: must have a workload of classes or values, got a language model; "
                "use search: optuna"
            )
        super().__init__(workload, device, batch_size=batch_size, seed=seed)
        self._metric = next(iter(workload.metrics.values()))
        count = num_examples(self._data)
        if count < 2:
            raise InputError(f"learned soup: val must have at least 2 examples, got {count}")
        order = torch.randperm(count, generator=seeded_generator(seed, "halves of val"))
        self._fit, self._choice = order.tensor_split([(count + 1) // 2])

    def batches(
        self, epoch: int
    ) -> Iterator[Callable[[Weights, float], tuple[float, Weights, float]]]:
        """Yield the loss on each batch of an epoch of the half to fit on."""
        for indices in self._shuffled(self._fit, "fit on val", epoch):
            yield partial(self._loss, indices)

    def judge(self, weights: Weights, beta: float) -> tuple[float, float, float]:
        """Score weights, whose outputs are multiplied by `beta`, on both halves.

        Returns:
            The metric and the loss on the half to choose on, and the loss on the other half.
        """
        put_weights(self._model, weights)
        score, loss = self._evaluate(self._choice, beta)
        return score, loss, self._evaluate(self._fit, beta)[1]

    def _loss(self, indices: Tensor, weights: Weights, beta: float) -> tuple[float, Weights, float]:
        put_weights(self._model, weights)
        batch = self._batch(indices)
        scale = torch.tensor(beta, device=self._device, requires_grad=True)
        outputs = scale * self._workload.forward(self._model, batch)
        loss = self._workload.loss(outputs, batch).mean()
        trained = _trained(self._model)
        slope, *slopes = torch.autograd.grad(loss, [scale, *trained.values()], allow_unused=True)
        return loss.item(), _present(trained, slopes), slope.item()

    def _evaluate(self, indices: Tensor, beta: float) -> tuple[float, float]:
        """Return the mean metric and the mean loss, computed in float64."""
        values, losses = [], []
        with torch.inference_mode():
            for part in batches_by_length(self._data, indices, _BATCH):
                batch = self._batch(part)
                outputs = beta * self._workload.forward(self._model, batch)
                values.append(self._metric(outputs, batch[-1]).double())
                losses.append(self._workload.loss(outputs, batch).double())
        return float(torch.cat(values).mean()), float(torch.cat(losses).mean())


class UnlabelledVal(_Val):
    """The inputs of val; no result depends on its targets."""

    def __init__(self, workload: Workload, device: str, *, batch_size: int, seed: int) -> None:
        """Open val.

        Raises:
            InputError: outputs are not logits of classes.
        """
        if workload.task != "classification":
            raise InputError(
                f"adamerging: must have a workload of classes, got the task {workload.task!r}; "
                "use search: optuna"
            )
        super().__init__(workload, device, batch_size=batch_size, seed=seed)

    def batches(self, number: int) -> Iterator[Callable[[Weights], tuple[float, Weights]]]:
        """Yield the entropy on each batch of a pass."""
        every = torch.arange(num_examples(self._data))
        for indices in self._shuffled(every, "entropy on val", number):
            yield partial(self._entropy, indices)

    def class_entropy(self, weights: Weights) -> float:
        """Return the entropy, in nats, of the distribution of predicted classes."""
        put_weights(self._model, weights)
        with torch.inference_mode():
            every = torch.arange(num_examples(self._data))
            parts = batches_by_length(self._data, every, _BATCH)
            outputs = torch.cat([self._outputs(part) for part in parts])  # (N, C)
        counts = torch.bincount(outputs.argmax(dim=1), minlength=outputs.shape[1])
        shares = counts.double() / len(outputs)
        return float(torch.special.entr(shares).sum())

    def _entropy(self, indices: Tensor, weights: Weights) -> tuple[float, Weights]:
        put_weights(self._model, weights)
        log_shares = self._outputs(indices).log_softmax(dim=1)  # (N, C)
        entropy = -(log_shares.exp() * log_shares).sum(dim=1).mean()
        trained = _trained(self._model)
        slopes = torch.autograd.grad(entropy, list(trained.values()), allow_unused=True)
        return entropy.item(), _present(trained, slopes)

    def _outputs(self, indices: Tensor) -> Tensor:
        *inputs, targets = self._batch(indices)
        batch = (*inputs, torch.zeros_like(targets))
        return self._workload.forward(self._model, batch)


def _trained(model: nn.Module) -> Weights:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _present(names: Iterable[str], slopes: Sequence[Tensor | None]) -> Weights:
    """Return gradients by name, without parameters that do not affect the outputs."""
    return {n: slope for n, slope in zip(names, slopes, strict=True) if slope is not None}
