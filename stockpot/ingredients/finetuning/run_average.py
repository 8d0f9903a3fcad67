"""The average of a run's weights that is its result."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.weight_averages import (
    ExponentialAverage,
    LatestWeightAverage,
    State,
    StochasticWeightAverage,
)
from stockpot.workloads.protocol import Batch, Workload


@dataclass(frozen=True, slots=True)
class RunAverage:
    """Takes in a model's weights as its training goes.

    Attributes:
        model: whose weights.
        average: of them; None for the latest.
        first: the first step after which they are taken in.
        every: steps from one time to the next.
    """

    model: nn.Module
    average: ExponentialAverage | StochasticWeightAverage | LatestWeightAverage | None
    first: int
    every: int = 1

    def update(self, step: int) -> None:
        """Take in the weights after step `step`, from 0, if it is their turn."""
        if self.average and step >= self.first and (step - self.first) % self.every == 0:
            self.average.update(self.model.state_dict())

    def has_begun(self, steps_done: int) -> bool:
        """Say whether weights were taken in after so many steps."""
        return self.average is not None and steps_done > self.first

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what it holds."""
        return self.average.tensors() if self.average else {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Hold that."""
        if self.average:
            self.average.load(tensors, self.model.state_dict())


def build_average(model: nn.Module, how: Hyperparameters, steps_per_epoch: int) -> RunAverage:
    """Build the average that a run's hyperparameters name, of its epochs after the probe.

    `ema` takes in every step from the start on, `swa` every step of the end, `lawa` the ends of
    epochs. With its warmup, `ema` follows the weights of a short run too.
    """
    start, steps = how.probe_epochs * steps_per_epoch, how.epochs * steps_per_epoch
    match how.average:
        case "none":
            return RunAverage(model, None, start)
        case "ema":
            return RunAverage(model, ExponentialAverage(how.ema_momentum, warmup=True), start)
        case "swa":
            first = start + min(steps - 1, round(how.swa_start * steps))
            return RunAverage(model, StochasticWeightAverage(), first)
        case "lawa":
            average = LatestWeightAverage(how.lawa_epochs)
            return RunAverage(model, average, start + steps_per_epoch - 1, steps_per_epoch)


def has_statistics(model: nn.Module) -> bool:
    """Say whether a net has BatchNorm statistics."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def recalibrated(
    model: nn.Module,
    weights: State,
    workload: Workload,
    batches: Sequence[Batch],
    kept: frozenset[str],
) -> State:
    """Return averaged weights with BatchNorm statistics that are theirs.

    Args:
        model: a net of their architecture; it stays as it is.
        weights: the average.
        workload: runs a net.
        batches: examples of the split that was trained on.
        kept: names of the statistics that were not to change.
    """
    from stockpot.workloads.batch_norm import recalibrate_batch_norm  # it brings scipy

    net = copy.deepcopy(model)
    net.load_state_dict(weights)
    recalibrate_batch_norm(net, workload.forward, batches, fraction=1.0)
    return {
        name: (weights[name] if name in kept else tensor.detach())
        for name, tensor in net.state_dict().items()
    }
