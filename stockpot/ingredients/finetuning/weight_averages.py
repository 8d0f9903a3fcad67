"""Averages of one model's weights along its training: EMA, SWA, LAWA.

Each takes state dicts as training goes, and gives one on request. Sums are kept in float32 or
wider and rounded once, to the dtype of the weights. Integer buffers are never averaged: the latest
stay. After an average, a net's BatchNorm statistics have to be estimated anew. Averages of
checkpoints that were saved are soups: `linear` makes them. What an average holds can be taken out
as tensors and put into another one, which goes on bit for bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]
Dtypes = dict[str, torch.dtype]


class ExponentialAverage:
    """The average whose older weights count exponentially less: e <- m e + (1 - m) theta.

    The first weights start it. Source: Polyak & Juditsky 1992; warmup as in TensorFlow's
    `ExponentialMovingAverage`; debiasing as in Adam (Kingma & Ba 2015, section 3).
    """

    def __init__(
        self, momentum: float = 0.999, *, warmup: bool = False, debias: bool = False
    ) -> None:
        """Start an average.

        Args:
            momentum: m, in [0, 1]: 0 keeps the latest weights, 1 the first.
            warmup: whether m is at most (1 + t) / (10 + t) at update t, so that the first
                weights, which are far off, are forgotten sooner.
            debias: whether the average starts from 0 and is divided by the sum of its shares:
                then the first weights count like all others.

        Raises:
            ValueError: `momentum` is out of range, or is 1 with `debias`: nothing is then kept.
        """
        if not 0 <= momentum <= 1:
            raise ValueError(f"EMA: momentum must be in [0, 1], got {momentum}")
        if momentum == 1 and debias:
            raise ValueError("EMA: momentum must be below 1 with debias, got 1")
        self._momentum, self._warmup = momentum, warmup
        self._old_share = 1.0 if debias else 0.0  # of what was there before the first weights
        self._average: State = {}
        self._dtypes: Dtypes = {}
        self._num_updates = 0

    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Take in the weights after a step."""
        step, self._num_updates = self._num_updates, self._num_updates + 1
        momentum = min(self._momentum, (1 + step) / (10 + step) if self._warmup else 1.0)
        if not self._average:
            self._dtypes = _dtypes_of(weights)
            self._average = _copied(weights)
            if self._old_share == 0:
                return
            self._average = _combined(self._average, torch.zeros_like)
        self._old_share *= momentum
        for name, tensor in weights.items():
            old = self._average[name]
            if old.is_floating_point():
                self._average[name] = momentum * old + (1 - momentum) * tensor.detach().to(old)
            else:
                self._average[name] = tensor.detach().clone()

    def average(self) -> State:
        """Return the average so far.

        Raises:
            ValueError: no weights were taken in.
        """
        _check_any("EMA", self._num_updates)
        share = 1 - self._old_share
        return _rounded(_combined(self._average, lambda kept: kept / share), self._dtypes)

    def tensors(self) -> State:
        """Return all that it holds."""
        numbers = {
            "num_updates": torch.tensor(self._num_updates),
            "old_share": torch.tensor(self._old_share, dtype=torch.float64),
        }
        return _named("kept", self._average) | numbers

    def load(self, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """Hold what another one held; `weights` has the devices and dtypes of its samples."""
        self._average, self._dtypes = _beside(_under("kept", tensors), weights), _dtypes_of(weights)
        self._num_updates = int(tensors["num_updates"])
        self._old_share = float(tensors["old_share"])


class StochasticWeightAverage:
    """The mean of all weights that it is given, e.g. of a training's end.

    e <- (n e + theta) / (n + 1). Source: Izmailov et al. 2018, algorithm 1
    (https://arxiv.org/abs/1803.05407).
    """

    def __init__(self) -> None:
        self._average: State = {}
        self._dtypes: Dtypes = {}
        self.num_samples = 0

    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Take in a sample."""
        self.num_samples += 1
        if self.num_samples == 1:
            self._dtypes = _dtypes_of(weights)
            self._average = _copied(weights)
            return
        for name, tensor in weights.items():
            old = self._average[name]
            if old.is_floating_point():
                # The same as (n e + theta) / (n + 1), but it does not grow and round.
                self._average[name] = old + (tensor.detach().to(old) - old) / self.num_samples
            else:
                self._average[name] = tensor.detach().clone()

    def average(self) -> State:
        """Return the mean of the samples so far.

        Raises:
            ValueError: there was none.
        """
        _check_any("SWA", self.num_samples)
        return _rounded(self._average, self._dtypes)

    def tensors(self) -> State:
        """Return all that it holds."""
        return _named("kept", self._average) | {"num_samples": torch.tensor(self.num_samples)}

    def load(self, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """Hold what another one held; `weights` has the devices and dtypes of its samples."""
        self._average, self._dtypes = _beside(_under("kept", tensors), weights), _dtypes_of(weights)
        self.num_samples = int(tensors["num_samples"])


class LatestWeightAverage:
    """The mean of the latest few checkpoints, e.g. those at the ends of epochs (LAWA).

    Source: Kaddour 2022 (https://arxiv.org/abs/2209.14981).
    """

    def __init__(self, num_checkpoints: int = 6) -> None:
        """Start an average.

        Args:
            num_checkpoints: the paper's k, of which as many copies are held; 1 keeps the latest.

        Raises:
            ValueError: `num_checkpoints` is below 1.
        """
        if not num_checkpoints >= 1:
            raise ValueError(f"LAWA: num_checkpoints must be at least 1, got {num_checkpoints}")
        self._latest: deque[State] = deque(maxlen=num_checkpoints)

    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Take in a checkpoint; the oldest one leaves."""
        self._latest.append({name: tensor.detach().clone() for name, tensor in weights.items()})

    def average(self) -> State:
        """Return the mean of the latest checkpoints.

        Raises:
            ValueError: there was none.
        """
        _check_any("LAWA", len(self._latest))
        total = _copied(self._latest[0])
        for weights in list(self._latest)[1:]:
            for name, tensor in weights.items():
                old = total[name]
                total[name] = old + tensor.to(old) if old.is_floating_point() else tensor
        mean = _combined(total, lambda summed: summed / len(self._latest))
        return _rounded(mean, _dtypes_of(self._latest[0]))

    def tensors(self) -> State:
        """Return all that it holds."""
        held = [_named(str(place), weights) for place, weights in enumerate(self._latest)]
        return {name: tensor for weights in held for name, tensor in weights.items()}

    def load(self, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """Hold what another one held; `weights` has the devices of its checkpoints."""
        self._latest.clear()
        for place in range(len({name.partition(".")[0] for name in tensors})):
            self._latest.append(_beside(_under(str(place), tensors), weights))


def _copied(weights: Mapping[str, Tensor]) -> State:
    """Copy tensors; floating-point ones in float32 or wider."""
    return {
        name: tensor.detach().to(_wide(tensor.dtype), copy=True) for name, tensor in weights.items()
    }


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32) if dtype.is_floating_point else dtype


def _combined(state: State, change: Callable[[Tensor], Tensor]) -> State:
    """Apply `change` to the floating-point tensors; leave the others."""
    return {
        n: change(tensor) if tensor.is_floating_point() else tensor for n, tensor in state.items()
    }


def _rounded(state: State, dtypes: Mapping[str, torch.dtype]) -> State:
    return {name: tensor.to(dtypes[name], copy=True) for name, tensor in state.items()}


def _dtypes_of(weights: Mapping[str, Tensor]) -> Dtypes:
    return {name: tensor.dtype for name, tensor in weights.items()}


def _named(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> State:
    start = f"{prefix}."
    return {n.removeprefix(start): tensor for n, tensor in tensors.items() if n.startswith(start)}


def _beside(state: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> State:
    """Put tensors on the devices of a model's."""
    return {name: tensor.to(weights[name].device) for name, tensor in state.items()}


def _check_any(name: str, count: int) -> None:
    if not count:
        raise ValueError(f"{name}: needs weights to average, got none")
