"""Forward passes: the outputs of a model on a data set, and what a metric makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from stockpot.seeding import seeded_generator
from stockpot.workloads.batches import num_examples, take, to_device
from stockpot.workloads.protocol import Workload

_BATCH = 1024


class Examples:
    """A data set on a device, ready for repeated forward passes."""

    def __init__(self, workload: Workload, dataset: Dataset[Any], device: str) -> None:
        """Move `dataset` to `device` where it fits as tensors, else read it batch by batch."""
        self._workload = workload
        self._dataset = to_device(dataset, device)
        self._device = device
        self._parts = torch.split(torch.arange(num_examples(dataset)), _BATCH)
        self.targets = torch.cat([self._batch(part)[-1] for part in self._parts])  # (N,)

    def outputs(self, model: nn.Module) -> Tensor:
        """Return the model's outputs (N, C), on the device."""
        with torch.inference_mode():
            return torch.cat(
                [self._workload.forward(model, self._batch(part)) for part in self._parts]
            )

    def loss(self, outputs: Tensor) -> float:
        """Return the mean loss of outputs (N, C)."""
        losses = [
            self._workload.loss(outputs[part.to(outputs.device)], self._batch(part))
            for part in self._parts
        ]
        return torch.cat(losses).mean().item()

    def _batch(self, part: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.to(self._device) for tensor in take(self._dataset, part))


def empty_model(workload: Workload, device: str) -> nn.Module:
    """Build a model for weights to be put into, in eval mode."""
    return workload.build_model(seeded_generator(0, "weights")).to(device).eval()


def put_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make `model` use `weights`, which stay where they are: nothing is copied."""
    model.load_state_dict(weights, assign=True)
