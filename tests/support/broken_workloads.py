"""Workloads that each break one promise of the protocol, and one that breaks none."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils.data import TensorDataset
from toy_workload import Toy

from stockpot.workloads.protocol import Batch, Shift

_calls = itertools.count()


def changed(split: str, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> type[Sound]:
    """Make a workload whose points and targets of one split are changed."""

    class Changed(Sound):
        def dataset(self, name: str) -> TensorDataset:
            points, targets = super().dataset(name).tensors
            return TensorDataset(*(change(points, targets) if name == split else (points, targets)))

    return Changed


class Sound(Toy):
    def __init__(self, seed: int, val_shifts: Sequence[str], test_shifts: Sequence[str]) -> None:
        super().__init__(seed, val_shifts, test_shifts, sizes="16,12")


class NoTuples(Sound):
    def dataset(self, split: str) -> Any:
        return [tensor[0] for tensor in super().dataset(split).tensors[0]]


class Leak(Sound):
    def dataset(self, split: str) -> TensorDataset:
        if split != "val":
            return super().dataset(split)
        of_train, own = super().dataset("train").tensors, super().dataset("val").tensors
        return TensorDataset(*(torch.cat(pair) for pair in zip(own, of_train, strict=True)))


class AnotherEachTime(Sound):
    def dataset(self, split: str) -> TensorDataset:
        points, targets = super().dataset(split).tensors
        return TensorDataset(points + next(_calls), targets)


class GlobalRandomState(Sound):
    def build_model(self, generator: Generator) -> nn.Module:  # noqa: ARG002 (that is the fault)
        return nn.Linear(2, 2)


class OneModel(Sound):
    _model = nn.Linear(2, 2)

    def build_model(self, generator: Generator) -> nn.Module:  # noqa: ARG002 (that is the fault)
        return self._model


class OfTheBatch(Sound):
    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs = super().forward(model, batch)
        return outputs * torch.tensor([1.0, float(len(outputs))])


class ChangesTheBatch(Sound):
    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        batch[0].mul_(2)
        return super().forward(model, batch)


class MeanLoss(Sound):
    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        return super().loss(outputs, batch, label_smoothing=label_smoothing).mean()


class LossWithoutGradient(Sound):
    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        return super().loss(outputs.detach(), batch, label_smoothing=label_smoothing)


class RisingLoss(Sound):
    """The gradient of the loss is that of its negative."""

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        losses = super().loss(outputs, batch, label_smoothing=label_smoothing)
        return 2 * losses.detach() - losses


class MeanMetric(Sound):
    def __init__(self, seed: int, val_shifts: Sequence[str], test_shifts: Sequence[str]) -> None:
        super().__init__(seed, val_shifts, test_shifts)
        self.metrics = {
            "right": lambda outputs, targets: (outputs.argmax(-1) == targets).float().mean()
        }


class MetricThatRaises(Sound):
    def __init__(self, seed: int, val_shifts: Sequence[str], test_shifts: Sequence[str]) -> None:
        super().__init__(seed, val_shifts, test_shifts)
        self.metrics = {"right": lambda outputs, targets: {}[outputs, targets]}


class BooleanMetric(Sound):
    def __init__(self, seed: int, val_shifts: Sequence[str], test_shifts: Sequence[str]) -> None:
        super().__init__(seed, val_shifts, test_shifts)
        self.metrics = {"right": lambda outputs, targets: outputs.argmax(-1) == targets}


class ShiftOfTheWrongSplit(Sound):
    def shifts(self) -> Mapping[str, Shift]:
        return {name: Shift("test", shift.dataset) for name, shift in super().shifts().items()}


class OtherOrder(Sound):
    def shifts(self) -> Mapping[str, Shift]:
        return {
            name: Shift(shift.split, partial(_reversed, shift))
            for name, shift in super().shifts().items()
        }


class OtherExamples(Sound):
    """Its shifts are other examples, and some of them of train."""

    def shifts(self) -> Mapping[str, Shift]:
        names = super().shifts()
        return {
            name: Shift(shift.split, partial(self.dataset, "train"), is_copy=False)
            for name, shift in names.items()
        }


class NewExamples(Sound):
    """Its shifts are other examples."""

    def shifts(self) -> Mapping[str, Shift]:
        return {
            name: Shift(s.split, s.dataset, is_copy=False) for name, s in super().shifts().items()
        }


class RandomShift(Sound):
    def shifts(self) -> Mapping[str, Shift]:
        return {
            name: Shift(shift.split, partial(_moved_each_time, shift))
            for name, shift in super().shifts().items()
        }


class ShiftOfItsPlace(Sound):
    def shifts(self) -> Mapping[str, Shift]:
        return {
            name: Shift(shift.split, partial(_moved, shift, place))
            for place, (name, shift) in enumerate(super().shifts().items())
        }


class AugmentsAtZero(Sound):
    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:  # noqa: ARG002 (that is the fault)
        return (batch[0] + 1, *batch[1:])


class AugmentsTargets(Sound):
    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:  # noqa: ARG002 (that is the fault)
        return (batch[0], 1 - batch[1]) if strength else batch


class DigestOfShifts(Sound):
    def data_digest(self) -> str:
        return f"{sorted(self.shifts())}"


class DigestOfNothing(Sound):
    def __init__(self, seed: int, val_shifts: Sequence[str], test_shifts: Sequence[str]) -> None:
        super().__init__(seed, val_shifts, test_shifts)
        self._offset = seed

    def data_digest(self) -> str:
        return "data"

    def dataset(self, split: str) -> TensorDataset:
        points, targets = super().dataset(split).tensors
        return TensorDataset(points + self._offset, targets)


class WithReference(Sound):
    has_reference = True

    def __init__(self, seed: int, val_shifts: Sequence[str], test_shifts: Sequence[str]) -> None:
        super().__init__(seed, val_shifts, test_shifts)
        self._seed = seed

    def dataset(self, split: str) -> TensorDataset:
        if split != "reference":
            return super().dataset(split)
        points, targets = super().dataset("train").tensors
        return TensorDataset(points + 5 + self._seed, targets)


class DigestWithoutReference(WithReference):
    def data_digest(self) -> str:
        return "the four splits, which are the same for every seed"


class ReferenceOfVal(WithReference):
    def dataset(self, split: str) -> TensorDataset:
        return super().dataset("val" if split == "reference" else split)


class NoReference(Sound):
    has_reference = True


class HashOfStrings(Sound):
    def dataset(self, split: str) -> TensorDataset:
        points, targets = super().dataset(split).tensors
        return TensorDataset(points + hash("a name") % 1000, targets)


NoClass = changed("train", lambda points, targets: (points, targets + 1))
FloatClass = changed("val", lambda points, targets: (points, targets.float()))
MissingClass = changed("train", lambda points, targets: (points, torch.zeros_like(targets)))
NotANumber = changed("val", lambda points, targets: (points / 0 * 0, targets))
Empty = changed("val", lambda points, targets: (points[:0], targets[:0]))
OtherShape = changed("test", lambda points, targets: (points[:, None], targets))


def _reversed(shift: Shift) -> TensorDataset:
    return TensorDataset(*(tensor.flip(0) for tensor in shift.dataset().tensors))  # type: ignore[attr-defined]


def _moved(shift: Shift, distance: float) -> TensorDataset:
    points, targets = shift.dataset().tensors  # type: ignore[attr-defined]
    return TensorDataset(points + distance, targets)


def _moved_each_time(shift: Shift) -> TensorDataset:
    return _moved(shift, next(_calls))
