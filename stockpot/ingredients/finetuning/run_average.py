"""The average of the weights along a run that becomes its result."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.weight_averages import (
    ExponentialAverage,
    LatestWeightAverage,
    RunningAverage,
    StochasticWeightAverage,
)
from stockpot.merging.states import StateDict
from stockpot.workloads.batch_norm import recalibrate_batch_norm
from stockpot.workloads.protocol import Batch, Workload


@dataclass(frozen=True, slots=True)
class RunAverage:
    """Averages a model's weights during its training.

    Attributes:
        model: the model that is trained.
        average: what is added to.
        first: the first step (from 0) after which weights are added.
        every: number of steps between two additions.
    """

    model: nn.Module
    average: RunningAverage | LatestWeightAverage
    first: int
    every: int = 1

    def update(self, step: int) -> None:
        """Add the weights after step `step` (from 0), if they are due."""
        if step >= self.first and (step - self.first) % self.every == 0:
            self.average.update(self.model.state_dict())

    def after(self, steps_done: int) -> StateDict | None:
        """Return the average after `steps_done` steps; None if it has no weights yet."""
        return self.average.average() if steps_done > self.first else None

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the state of the average."""
        return self.average.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Restore the state of the average."""
        self.average.load(state_dict, self.model.state_dict())


def build_average(
    model: nn.Module, how: Hyperparameters, steps_per_epoch: int
) -> RunAverage | None:
    """Build the average of a run's hyperparameters, over the epochs after the probe, if any.

    `ema` adds the weights after every step, `swa` after one of `average_every` steps from
    `swa_start` on, `lawa` at the end of every epoch. Because of its warmup, `ema` suits short runs
    too. With `average_start` the first sample of `ema` and `swa` is the model before the run.
    """
    start, steps = how.probe_epochs * steps_per_epoch, how.epochs * steps_per_epoch
    match how.average:
        case "none":
            return None
        case "ema":
            average = RunAverage(model, ExponentialAverage(how.ema_momentum, warmup=True), start)
        case "swa":
            first = start + min(steps - 1, round(how.swa_start * steps))
            average = RunAverage(model, StochasticWeightAverage(), first, how.average_every)
        case "lawa":
            latest = LatestWeightAverage(how.lawa_epochs)
            return RunAverage(model, latest, start + steps_per_epoch - 1, steps_per_epoch)
    if how.average_start:
        average.average.update(model.state_dict())
    return average


def recalibrated(
    model: nn.Module,
    weights: StateDict,
    workload: Workload,
    batches: Sequence[Batch],
    frozen: frozenset[str],
) -> StateDict:
    """Return averaged weights with BatchNorm statistics measured for them.

    Args:
        model: of the same architecture; left unchanged.
        weights: the average.
        workload: runs the model.
        batches: examples of the training split.
        frozen: names of the statistics that must not change.
    """
    net = copy.deepcopy(model)
    net.load_state_dict(weights)
    recalibrate_batch_norm(net, workload.forward, batches, fraction=1.0)
    return {
        name: (weights[name] if name in frozen else tensor.detach())
        for name, tensor in net.state_dict().items()
    }
