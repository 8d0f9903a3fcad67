"""A workload of one's own, small enough to compute by hand."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from stockpot.workloads.protocol import Batch, Metric, Shift, Task

_SEEDS = {"pretrain": 0, "train": 1, "val": 2, "test": 3}


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(dim=-1) == targets).float()


def first_output(outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG001 (the form of a metric)
    return outputs[:, 0].float()


class Toy:
    """Points in the plane; the class is the larger coordinate; a shift moves all points.

    Args:
        seed: moves nothing; it is part of the digest.
        val_shifts: any names; the length of a name is how far points move.
        test_shifts: as well.
        sizes: numbers of examples of val and test, `val,test`.
        metric: what choices use: accuracy, or the first output itself.
        closed: a split that must not be opened, nor any shift of it.
    """

    task: Task = "classification"
    metrics: Mapping[str, Metric]

    def __init__(
        self,
        seed: int,
        val_shifts: Sequence[str],
        test_shifts: Sequence[str],
        sizes: str = "6,4",
        metric: str = "accuracy",
        closed: str = "",
    ) -> None:
        known = {"accuracy": accuracy, "first output": first_output}
        self.metrics = {metric: known[metric], **known}
        self._seed = seed
        self._splits = dict.fromkeys(val_shifts, "val") | dict.fromkeys(test_shifts, "test")
        val, test = sizes.split(",")
        self._sizes = {"pretrain": 8, "train": 8, "val": int(val), "test": int(test)}
        self._closed = closed

    def data_digest(self) -> str:
        return hashlib.sha256(f"{self._seed} {self._sizes}".encode()).hexdigest()

    def build_model(self, generator: Generator) -> nn.Module:
        model = nn.Linear(2, 2, bias=False)
        model.weight.data = torch.randn(2, 2, generator=generator)
        return model

    def dataset(self, split: str) -> TensorDataset:
        if split == self._closed:
            raise AssertionError(f"{split} was opened")
        generator = torch.Generator().manual_seed(_SEEDS[split])
        points = torch.randn(self._sizes[split], 2, generator=generator)
        return TensorDataset(points, points.argmax(dim=1))

    def shifts(self) -> Mapping[str, Shift]:
        return {
            name: Shift(split, partial(self._moved, name, split))
            for name, split in self._splits.items()
        }

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:  # noqa: ARG002 (none)
        return batch

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs: Tensor = model(batch[0])
        return outputs

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        return functional.cross_entropy(
            outputs, batch[-1], reduction="none", label_smoothing=label_smoothing
        )

    def _moved(self, name: str, split: str) -> TensorDataset:
        points, targets = self.dataset(split).tensors
        return TensorDataset(points + torch.tensor([float(len(name)), 0.0]), targets)


class Elsewhere(Toy):
    """The toy workload whose shifts are other points than those of their splits, and 8 of them."""

    def shifts(self) -> Mapping[str, Shift]:
        return {
            name: Shift(shift.split, partial(self._moved, name, "train"), is_copy=False)
            for name, shift in super().shifts().items()
        }


class Layered(Toy):
    """The toy workload whose only layer has a name."""

    def build_model(self, generator: Generator) -> nn.Module:
        return nn.Sequential(OrderedDict(layer=super().build_model(generator)))


class ToyNet(Toy):
    """The toy workload with a net of two layers of 16 weights each, and BatchNorm between them."""

    def build_model(self, generator: Generator) -> nn.Module:
        model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
        for layer in (model[0], model[2]):
            layer.weight.data = torch.randn(layer.weight.shape, generator=generator)
            layer.bias.data.zero_()
        return model
