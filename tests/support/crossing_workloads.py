"""A regression with two outputs, for tests that cross everything with everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from stockpot.errors import InputError
from stockpot.workloads.protocol import Batch, Metric, Shift, Task

_SIZES = {"pretrain": 24, "train": 48, "val": 24, "test": 24}


def minus_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the negative squared error per example, summed over both outputs; (N,)."""
    return -(outputs - targets).square().sum(dim=1)


class TwoOutputs:
    """Four numbers, of which two sums of sines are to be predicted, by an MLP."""

    task: Task = "regression"
    metrics: Mapping[str, Metric] = {"minus_squared_error": minus_squared_error}

    def __init__(self, seed: int, val_shifts: Sequence[str], test_shifts: Sequence[str]) -> None:
        assert not val_shifts
        assert not test_shifts
        self._seed = seed

    def data_digest(self) -> str:
        return f"two outputs {self._seed}"

    def build_model(self, generator: Generator) -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh())
        model.append(nn.Linear(12, 2))
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.4, generator=generator)
        return model

    def dataset(self, split: str) -> TensorDataset:
        generator = torch.Generator().manual_seed(list(_SIZES).index(split))
        inputs = torch.randn(_SIZES[split], 4, generator=generator)
        targets = torch.stack((inputs.sin().sum(dim=1), inputs[:, :2].cos().sum(dim=1)), dim=1)
        return TensorDataset(inputs, targets)

    def shifts(self) -> Mapping[str, Shift]:
        return {}

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:
        inputs, *rest = batch
        noise = torch.randn(inputs.shape, generator=generator).to(inputs.device)
        return (inputs + 0.1 * strength * noise, *rest)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs: Tensor = model(batch[0])
        return outputs

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        if label_smoothing:
            raise InputError("label_smoothing: a regression has no classes; set it to 0")
        return functional.mse_loss(outputs, batch[-1], reduction="none").mean(dim=1)
