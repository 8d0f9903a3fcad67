"""Forward passes: the outputs of a model on a data set, and what a metric makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from stockpot.seeding import seeded_generator
from stockpot.workloads.batches import (
    batches_by_length,
    in_order,
    num_examples,
    take,
    to_device,
)
from stockpot.workloads.protocol import Batch, Workload

_BATCH = 1024


class Examples:
    """A data set on a device, ready for repeated forward passes."""

    def __init__(self, workload: Workload, dataset: Dataset[Any], device: str) -> None:
        """Move `dataset` to `device` where it fits as tensors, else read it batch by batch."""
        self._workload = workload
        self._dataset = to_device(dataset, device)
        self._device = device
        every = torch.arange(num_examples(dataset))
        self._parts = batches_by_length(self._dataset, every, _BATCH)
        self.targets = self.of_each(lambda batch: batch[-1])  # (N,)

    def of_each(self, compute: Callable[[Batch], Tensor]) -> Tensor:
        """Compute something of every example, batch by batch on the device; in their order."""
        return self._joined([compute(self._batch(part)) for part in self._parts])

    def outputs(self, model: nn.Module) -> Tensor:
        """Return the model's outputs (N, C), on the device."""
        with torch.inference_mode():
            return self.of_each(lambda batch: self._workload.forward(model, batch))

    def outputs_and_losses(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """Return the model's outputs (N, C) and the loss of each example (N,), in one pass."""
        outputs, losses = [], []
        with torch.inference_mode():
            for part in self._parts:
                batch = self._batch(part)
                outputs.append(self._workload.forward(model, batch))
                losses.append(self._workload.loss(outputs[-1], batch))
        return self._joined(outputs), self._joined(losses)

    def losses(self, outputs: Tensor) -> Tensor:
        """Return the loss of each example (N,), of outputs (N, C)."""
        losses = [
            self._workload.loss(outputs[part.to(outputs.device)], self._batch(part))
            for part in self._parts
        ]
        return self._joined(losses)

    def loss(self, outputs: Tensor) -> float:
        """Return the mean loss of outputs (N, C)."""
        return self.losses(outputs).mean().item()

    def _joined(self, values: Sequence[Tensor]) -> Tensor:
        return in_order(torch.cat(list(values)), self._parts)

    def _batch(self, part: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.to(self._device) for tensor in take(self._dataset, part))


def empty_model(workload: Workload, device: str) -> nn.Module:
    """Build a model for weights to be put into, in eval mode."""
    return workload.build_model(seeded_generator(0, "weights")).to(device).eval()


def put_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make `model` use `weights`, which stay where they are: nothing is copied."""
    model.load_state_dict(weights, assign=True)


class CalledModel(nn.Module):
    """A model, called as its workload calls it, so that its parameters can be arguments."""

    def __init__(self, workload: Workload, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._workload = workload

    def forward(self, batch: Batch) -> Tensor:
        """Return the model's outputs (N, C)."""
        return self._workload.forward(self.model, batch)
