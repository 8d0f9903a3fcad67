"""Averages of one model's weights along its training: EMA, SWA, LAWA.

Each accumulates state dicts during training and returns an average on request. Sums are in float32
or wider and rounded once, to the dtype of the weights. Integer buffers are not averaged: the latest
are used. After averaging, a model's BatchNorm statistics have to be recalibrated. Averages of saved
checkpoints are soups: `linear` makes them. `tensors` and `load` save and restore an average, which
then continues bit for bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from stockpot.ingredients.finetuning.name_prefixes import with_prefix, without_prefix
from stockpot.merging.states import StateDict

Dtypes = dict[str, torch.dtype]


class _RunningAverage:
    """An average that is updated in place by each sample."""

    def __init__(self) -> None:
        self._average: StateDict = {}
        self._dtypes: Dtypes = {}

    def _start(self, weights: Mapping[str, Tensor]) -> None:
        self._average, self._dtypes = _copied(weights), _dtypes_of(weights)

    def _blend(
        self, weights: Mapping[str, Tensor], combine: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        """Replace each tensor by `combine(average, sample)`, integer ones by the sample."""
        for name, tensor in weights.items():
            old = self._average[name]
            self._average[name] = (
                combine(old, tensor.detach().to(old))
                if old.is_floating_point()
                else tensor.detach().clone()
            )

    def _restore(self, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        self._average = _on_devices_of(weights, without_prefix("average.", tensors))
        self._dtypes = _dtypes_of(weights)


class ExponentialAverage(_RunningAverage):
    """Average in which older weights count exponentially less: e <- m e + (1 - m) theta.

    It starts as the first weights. Source: Polyak & Juditsky 1992; warmup as in TensorFlow's
    `ExponentialMovingAverage`; debiasing as in Adam (Kingma & Ba 2015, section 3).
    """

    def __init__(
        self, momentum: float = 0.999, *, warmup: bool = False, debias: bool = False
    ) -> None:
        """Start an empty average.

        Args:
            momentum: m, in [0, 1]: 0 keeps the latest weights, 1 the first.
            warmup: whether m is at most (1 + t) / (10 + t) at update t, so that the first
                weights, which are far from the last, are forgotten sooner.
            debias: whether the average starts as 0 and is divided by the sum of its coefficients,
                so that the first weights count like all others.

        Raises:
            ValueError: `momentum` is out of range, or is 1 with `debias`, which averages nothing.
        """
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"EMA: momentum must be in [0, 1], got {momentum}")
        if momentum == 1 and debias:
            raise ValueError("EMA: momentum must be below 1 with debias, got 1")
        self._momentum, self._warmup = momentum, warmup
        self._initial_share = 1.0 if debias else 0.0  # coefficient of the initial 0
        self._num_updates = 0

    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Add the weights after a step."""
        step, self._num_updates = self._num_updates, self._num_updates + 1
        momentum = min(self._momentum, (1 + step) / (10 + step) if self._warmup else 1.0)
        if not self._average:
            self._start(weights)
            if self._initial_share == 0:
                return
            self._average = _combined(self._average, torch.zeros_like)
        self._initial_share *= momentum
        self._blend(weights, lambda old, new: momentum * old + (1 - momentum) * new)

    def average(self) -> StateDict:
        """Return the average so far.

        Raises:
            ValueError: no weights were added.
        """
        _check_any("EMA", self._num_updates)
        share = 1 - self._initial_share
        return _rounded(_combined(self._average, lambda total: total / share), self._dtypes)

    def tensors(self) -> StateDict:
        """Return the state."""
        numbers = {
            "num_updates": torch.tensor(self._num_updates),
            "initial_share": torch.tensor(self._initial_share, dtype=torch.float64),
        }
        return with_prefix("average.", self._average) | numbers

    def load(self, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """Restore a state; `weights` has the devices and dtypes of the samples."""
        self._restore(tensors, weights)
        self._num_updates = int(tensors["num_updates"])
        self._initial_share = float(tensors["initial_share"])


class StochasticWeightAverage(_RunningAverage):
    """Mean of all weights that are added, e.g. at the end of a training.

    e <- (n e + theta) / (n + 1). Source: Izmailov et al. 2018, algorithm 1
    (https://arxiv.org/abs/1803.05407).
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_samples = 0

    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Add a sample."""
        self.num_samples += 1
        if self.num_samples == 1:
            self._start(weights)
        else:
            # Equal to (n e + theta) / (n + 1), without a large sum that rounds.
            self._blend(weights, lambda old, new: old + (new - old) / self.num_samples)

    def average(self) -> StateDict:
        """Return the mean of the samples so far.

        Raises:
            ValueError: there are none.
        """
        _check_any("SWA", self.num_samples)
        return _rounded(self._average, self._dtypes)

    def tensors(self) -> StateDict:
        """Return the state."""
        count = {"num_samples": torch.tensor(self.num_samples)}
        return with_prefix("average.", self._average) | count

    def load(self, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """Restore a state; `weights` has the devices and dtypes of the samples."""
        self._restore(tensors, weights)
        self.num_samples = int(tensors["num_samples"])


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
        _check_any("LAWA", len(self._latest))
        total = _copied(self._latest[0])
        for weights in list(self._latest)[1:]:
            for name, tensor in weights.items():
                old = total[name]
                total[name] = old + tensor.to(old) if old.is_floating_point() else tensor
        mean = _combined(total, lambda summed: summed / len(self._latest))
        return _rounded(mean, _dtypes_of(self._latest[0]))

    def tensors(self) -> StateDict:
        """Return the state."""
        state: StateDict = {}
        for place, weights in enumerate(self._latest):
            state |= with_prefix(f"{place}.", weights)
        return state

    def load(self, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """Restore a state; `weights` has the devices of the checkpoints."""
        self._latest.clear()
        for place in range(len({name.partition(".")[0] for name in tensors})):
            self._latest.append(_on_devices_of(weights, without_prefix(f"{place}.", tensors)))


def _copied(weights: Mapping[str, Tensor]) -> StateDict:
    """Copy tensors; floating-point ones to float32 or wider."""
    return {
        name: tensor.detach().to(_wide(tensor.dtype), copy=True) for name, tensor in weights.items()
    }


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32) if dtype.is_floating_point else dtype


def _combined(state: StateDict, change: Callable[[Tensor], Tensor]) -> StateDict:
    """Apply `change` to the floating-point tensors; leave the others."""
    return {
        n: change(tensor) if tensor.is_floating_point() else tensor for n, tensor in state.items()
    }


def _rounded(state: StateDict, dtypes: Mapping[str, torch.dtype]) -> StateDict:
    return {name: tensor.to(dtypes[name], copy=True) for name, tensor in state.items()}


def _dtypes_of(weights: Mapping[str, Tensor]) -> Dtypes:
    return {name: tensor.dtype for name, tensor in weights.items()}


def _on_devices_of(weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> StateDict:
    """Move each tensor to the device of the model's tensor of the same name."""
    return {name: tensor.to(weights[name].device) for name, tensor in state.items()}


def _check_any(name: str, count: int) -> None:
    if not count:
        raise ValueError(f"{name}: needs weights to average, got none")
