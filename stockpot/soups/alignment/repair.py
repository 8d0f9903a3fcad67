"""REPAIR: gives the channels of a merged net the statistics that those of its parents have."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from stockpot.errors import InputError
from stockpot.workloads.responses import unit_rows, watched

B = TypeVar("B")
State: TypeAlias = Mapping[str, Tensor]
_Layer: TypeAlias = nn.Linear | _ConvNd | _BatchNorm
_CONSTANT = 1e-6  # a smaller deviation, relative to mean and aim, is rounding


@dataclass(slots=True)
class _Channels:
    """Sums over all that a layer put out, channel by channel, in float64."""

    count: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Add the outputs of one batch, (C, N) in float64."""
        self.count += values.shape[1]
        self.total = self.total + values.sum(dim=1)
        self.squares = self.squares + values.square().sum(dim=1)

    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        """Return both, one a channel."""
        mean = torch.as_tensor(self.total) / self.count
        variance = torch.as_tensor(self.squares) / self.count - mean.square()
        return mean, variance.clamp(min=0).sqrt()


def repair(
    model: nn.Module,
    parents: Sequence[State],
    coefficients: Sequence[float],
    merged: State,
    forward: Callable[[nn.Module, B], object],
    batches: Sequence[B],
) -> dict[str, Tensor]:
    """Scale and shift each channel of a merged net to the mean statistics of its parents.

    Mean and standard deviation of each output channel of each linear layer, convolution and
    BatchNorm become the weighted means of those of the parents; the scale and the shift go into
    weight and bias. A channel that is constant is only shifted. What a layer without bias puts
    out is left to the BatchNorm behind it. So a net with BatchNorm needs no recalibration, and
    its running statistics stay as they are.

    Args:
        model: the architecture; it stays as it is.
        parents: M aligned nets.
        coefficients: M numbers, of the parents in the merge, at least 0; only ratios count.
        merged: their merge.
        forward: runs a net on a batch, e.g. the workload's.
        batches: train examples in a fixed order, not augmented.

    Returns:
        The state dict of the repaired net.

    Raises:
        InputError: a layer has neither bias nor BatchNorm behind it, or shares its weights with
            another; the coefficients do not fit; there are no batches.

    Source: Jordan et al. 2022, https://arxiv.org/abs/2211.08403, section 4. The authors measure
    all layers of the merged net in one pass, with batch statistics; we go layer by layer, so
    that each one is measured behind layers that are repaired already. Their nets with BatchNorm
    are only recalibrated; we repair the layers without BatchNorm too: the head of a residual
    net reads sums of branches, which still vary too little.
    """
    shares = _shares(coefficients, parents)
    _check(model, batches)
    goals = [_measure(_loaded(model, parent), forward, batches) for parent in parents]
    net = _loaded(model, merged)
    layers = _layers(net)
    for name in _repairable(layers, list(goals[0])):
        mean, std = _measure(net, forward, batches, only=name)[name]
        aim_mean, aim_std = _mixed(shares, [goal[name] for goal in goals])
        is_constant = std <= _CONSTANT * (mean.abs() + aim_std)
        _fuse(layers[name], torch.where(is_constant, 1.0, aim_std / std), mean, aim_mean)
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


def _shares(coefficients: Sequence[float], parents: Sequence[State]) -> list[float]:
    """Return the coefficients divided by their sum."""
    total = sum(coefficients)
    if len(coefficients) != len(parents) or not (0 < total < math.inf and min(coefficients) >= 0):
        raise InputError(
            f"repair: coefficients must be {len(parents)} finite numbers of at least 0, not all 0, "
            f"got {list(coefficients)!r}"
        )
    return [coefficient / total for coefficient in coefficients]


def _mixed(
    shares: Sequence[float], statistics: Sequence[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Return the weighted means of a layer's means and deviations, one a channel."""
    weights = torch.tensor(shares, dtype=torch.float64)
    mean, std = (torch.stack(parts, dim=1) for parts in zip(*statistics, strict=True))  # (C, M)
    weights = weights.to(mean.device)
    return mean @ weights, std @ weights


def _check(model: nn.Module, batches: Sequence[object]) -> None:
    if not batches:
        raise InputError("repair: batches must be at least 1, got 0")
    layers = _layers(model)
    for name, layer in layers.items():
        if isinstance(layer, _ConvNd) and layer.transposed:
            raise InputError(f"repair: a convolution must not be transposed, got {name!r}")
    owned = [dict(layer.named_parameters(recurse=False)) for layer in layers.values()]
    weights = [id(parameters["weight"]) for parameters in owned if "weight" in parameters]
    if len(set(weights)) < len(weights):
        raise InputError(f"repair: layers must share no weights, got {sorted(layers)} that do")


def _repairable(layers: Mapping[str, _Layer], order: Sequence[str]) -> list[str]:
    """Return the layers that have a bias, in the order they run."""
    for name, following in pairwise([*order, ""]):
        is_normed = bool(following) and isinstance(layers[following], _BatchNorm)
        if layers[name].bias is None and not is_normed:
            raise InputError(
                "repair: a layer must have a bias to be shifted, or BatchNorm right behind it, "
                f"got neither for {name!r}"
            )
    return [name for name in order if layers[name].bias is not None]


def _layers(model: nn.Module) -> dict[str, _Layer]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | _ConvNd | _BatchNorm)
    }


def _loaded(model: nn.Module, state: State) -> nn.Module:
    net = copy.deepcopy(model).eval()
    net.load_state_dict(state)
    return net


@torch.no_grad()
def _measure(
    net: nn.Module,
    forward: Callable[[nn.Module, B], object],
    batches: Sequence[B],
    *,
    only: str | None = None,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean and standard deviation of what each layer puts out, in the order they run."""
    sums: dict[str, _Channels] = {}
    layers = {name: layer for name, layer in _layers(net).items() if only in {None, name}}
    with watched(layers, partial(_add_outputs, sums)):
        for batch in batches:
            forward(net, batch)
    return {name: channels.mean_and_std() for name, channels in sums.items()}


def _add_outputs(
    sums: dict[str, _Channels], name: str, layer: nn.Module, _inputs: Tensor, outputs: Tensor
) -> None:
    sums.setdefault(name, _Channels()).add(unit_rows(layer, outputs))


@torch.no_grad()
def _fuse(layer: _Layer, scale: Tensor, mean: Tensor, aim_mean: Tensor) -> None:
    """Change a layer so that it puts out its old outputs, less the mean, scaled and shifted."""
    assert layer.bias is not None
    per_row = scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    layer.weight.copy_(layer.weight.double() * per_row)
    layer.bias.copy_((layer.bias.double() - mean) * scale + aim_mean)
