"""Averages of one model's weights along its training: EMA, SWA, LAWA.

Each accumulates state dicts during training and returns an average on request. Sums are in float32
or wider and rounded once, to the dtype of the weights. Integer buffers are not averaged: the latest
are used. After averaging, a model's BatchNorm statistics have to be recalibrated. Averages of saved
checkpoints are soups: `linear` makes them. `state_dict` and `load` save and restore an average,
which then continues bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from stockpot.ingredients.finetuning.name_prefixes import with_prefix, without_prefix
from stockpot.merging.states import StateDict


class RunningAverage(ABC):
    """An average that is updated in place by each sample; it starts as the first one."""

    def __init__(self) -> None:
        self.num_samples = 0
        self._average: StateDict = {}
        self._dtypes: dict[str, torch.dtype] = {}

    @abstractmethod
    def _blend(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return how the latest sample changes the average: (average, sample) -> average."""

    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Add a sample; integer tensors are replaced by it."""
        self.num_samples += 1
        blend = self._blend()
        if self.num_samples == 1:
            self._average, self._dtypes = _widened(weights), _dtypes_of(weights)
            return
        for name, tensor in weights.items():
            old = self._average[name]
            self._average[name] = (
                blend(old, tensor.detach().to(old))
                if old.is_floating_point()
                else tensor.detach().clone()
            )

    def average(self) -> StateDict:
        """Return the average so far.

        Raises:
            ValueError: no weights were added.
        """
        _check_any(self.num_samples)
        return {name: t.to(self._dtypes[name], copy=True) for name, t in self._average.items()}

    def state_dict(self) -> StateDict:
        """Return the state."""
        count = {"num_samples": torch.tensor(self.num_samples)}
        return with_prefix("average.", self._average) | count

    def load(self, state: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """Restore a state; `weights` has the devices and dtypes of the samples."""
        self._average = _on_devices_of(weights, without_prefix("average.", state))
        self._dtypes = _dtypes_of(weights)
        self.num_samples = int(state["num_samples"])


class ExponentialAverage(RunningAverage):
    """Average in which older weights count exponentially less: e <- m e + (1 - m) theta.

    It starts as the first weights. Source: Polyak & Juditsky 1992; warmup as in TensorFlow's
    `ExponentialMovingAverage`.
    """

    def __init__(self, momentum: float = 0.999, *, warmup: bool = False) -> None:
        """Start an empty average.

        Args:
            momentum: m, in [0, 1]: 0 keeps the latest weights, 1 the first.
            warmup: whether m is at most (1 + t) / (10 + t) at update t, so that the first
                weights, which are far from the last, are forgotten sooner.

        Raises:
            ValueError: `momentum` is out of range.
        """
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"EMA: momentum must be in [0, 1], got {momentum}")
        self._momentum, self._warmup = momentum, warmup

    def _blend(self) -> Callable[[Tensor, Tensor], Tensor]:
        step = self.num_samples - 1
        momentum = min(self._momentum, (1 + step) / (10 + step) if self._warmup else 1.0)
        return lambda old, new: momentum * old + (1 - momentum) * new


class StochasticWeightAverage(RunningAverage):
    """Mean of all weights that are added, e.g. at the end of a training.

    e <- (n e + theta) / (n + 1). Source: Izmailov et al. 2018, algorithm 1
    (https://arxiv.org/abs/1803.05407).
    """

    def _blend(self) -> Callable[[Tensor, Tensor], Tensor]:
        # Equal to (n e + theta) / (n + 1), without a large sum that rounds.
        return lambda old, new: old + (new - old) / self.num_samples


class LatestWeightAverage:
    """Mean of the latest checkpoints, e.g. of those at the ends of epochs (LAWA).

    Source: Kaddour 2022 (https://arxiv.org/abs/2209.14981).
    """

    def __init__(self, num_checkpoints: int = 6) -> None:
        """Start an empty average.

        Args:
            num_checkpoints: the paper's k; as many copies are in memory. 1 keeps the latest.

        Raises:
            ValueError: `num_checkpoints` is below 1.
        """
        if not num_checkpoints >= 1:
            raise ValueError(f"LAWA: num_checkpoints must be at least 1, got {num_checkpoints}")
        self._latest: deque[StateDict] = deque(maxlen=num_checkpoints)

    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Add a checkpoint; the oldest one is dropped."""
        self._latest.append({name: tensor.detach().clone() for name, tensor in weights.items()})

    def average(self) -> StateDict:
        """Return the mean of the latest checkpoints.

        Raises:
            ValueError: there are none.
        """
        _check_any(len(self._latest))
        return {
            name: self._mean(name) if tensor.is_floating_point() else tensor.clone()
            for name, tensor in self._latest[-1].items()
        }

    def state_dict(self) -> StateDict:
        """Return the state."""
        return {
            f"{place}.{name}": tensor
            for place, weights in enumerate(self._latest)
            for name, tensor in weights.items()
        }

    def load(self, state: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """Restore a state; `weights` has the devices of the checkpoints."""
        self._latest.clear()
        for place in range(len({name.partition(".")[0] for name in state})):
            self._latest.append(_on_devices_of(weights, without_prefix(f"{place}.", state)))

    def _mean(self, name: str) -> Tensor:
        first, *others = (weights[name] for weights in self._latest)
        total = sum(others, start=first.to(_wide(first.dtype)))
        return (total / len(self._latest)).to(first.dtype)


def _widened(weights: Mapping[str, Tensor]) -> StateDict:
    """Copy tensors; floating-point ones to float32 or wider."""
    return {
        name: tensor.detach().to(_wide(tensor.dtype), copy=True) for name, tensor in weights.items()
    }


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32) if dtype.is_floating_point else dtype


def _dtypes_of(weights: Mapping[str, Tensor]) -> dict[str, torch.dtype]:
    return {name: tensor.dtype for name, tensor in weights.items()}


def _on_devices_of(weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> StateDict:
    """Move each tensor to the device of the model's tensor of the same name."""
    return {name: tensor.to(weights[name].device) for name, tensor in state.items()}


def _check_any(count: int) -> None:
    if not count:
        raise ValueError("average: needs weights to average, got none")
