"""Forward passes: outputs and losses of a model on a dataset."""

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
from stockpot.workloads.wide_nets import fit_widths

_BATCH = 1024


class Examples:
    """A dataset on a device, for repeated forward passes."""

    def __init__(self, workload: Workload, dataset: Dataset[Any], device: str) -> None:
        """Move `dataset` to `device` if it consists of tensors; else read it batch by batch."""
        self._workload = workload
        self._dataset = to_device(dataset, device)
        self._device = device
        indices = torch.arange(num_examples(dataset))
        self._batch_indices = batches_by_length(self._dataset, indices, _BATCH)
        self.targets = self.map(lambda batch: batch[-1])  # (N,)

    def map(self, compute: Callable[[Batch], Tensor]) -> Tensor:
        """Apply a function batch by batch on the device; results in the order of examples."""
        return self._joined([compute(self._batch(indices)) for indices in self._batch_indices])

    def outputs(self, model: nn.Module) -> Tensor:
        """Return the model's outputs (N, C), on the device."""
        with torch.inference_mode():
            return self.map(lambda batch: self._workload.forward(model, batch))

    def outputs_of(self, model: nn.Module, indices: Tensor) -> Tensor:
        """Return the model's outputs (n, C) for the examples at `indices` (n,), ascending."""
        batches = batches_by_length(self._dataset, indices, _BATCH)
        with torch.inference_mode():
            outputs = [self._workload.forward(model, self._batch(part)) for part in batches]
        places = torch.cat(batches).argsort()  # texts are sorted by length
        return torch.cat(outputs)[places.to(outputs[0].device)]

    def outputs_and_losses(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """Return the model's outputs (N, C) and the loss of each example (N,), in one pass."""
        outputs, losses = [], []
        with torch.inference_mode():
            for indices in self._batch_indices:
                batch = self._batch(indices)
                outputs.append(self._workload.forward(model, batch))
                losses.append(self._workload.loss(outputs[-1], batch))
        return self._joined(outputs), self._joined(losses)

    def losses(self, outputs: Tensor) -> Tensor:
        """Return the loss of each example (N,) for outputs (N, C)."""
        losses = [
            self._workload.loss(outputs[indices.to(outputs.device)], self._batch(indices))
            for indices in self._batch_indices
        ]
        return self._joined(losses)

    def loss(self, outputs: Tensor) -> float:
        """Return the mean loss for outputs (N, C)."""
        return self.losses(outputs).mean().item()

    def _joined(self, values: Sequence[Tensor]) -> Tensor:
        return in_order(torch.cat(list(values)), self._batch_indices)

    def _batch(self, indices: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.to(self._device) for tensor in take(self._dataset, indices))


def empty_model(workload: Workload, device: str) -> nn.Module:
    """Build a model in eval mode, whose weights are to be replaced."""
    return workload.build_model(seeded_generator(0, "weights")).to(device).eval()


def put_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make `model` use `weights` without copying them; it is as wide as they are."""
    fit_widths(model, weights)
    # As a plain dict: in the metadata of a state dict, torch notes that later loads assign as well.
    model.load_state_dict(dict(weights), assign=True)


def val_score(workload: Workload, weights: Mapping[str, Tensor], device: str) -> float:
    """Return the mean of the workload's first metric on val."""
    model = empty_model(workload, device)
    put_weights(model, weights)
    examples = Examples(workload, workload.dataset("val"), device)
    metric = next(iter(workload.metrics.values()))
    return metric(examples.outputs(model), examples.targets).double().mean().item()


class CalledModel(nn.Module):
    """A model that is called on batches, e.g. by `torch.func.functional_call`."""

    def __init__(self, workload: Workload, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.workload = workload

    def forward(self, batch: Batch) -> Tensor:
        """Return the model's outputs (N, C)."""
        return self.workload.forward(self.model, batch)
