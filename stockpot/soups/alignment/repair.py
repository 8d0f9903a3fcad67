"""REPAIR: rescale the channels of a merged net to the statistics of its parents."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from stockpot.errors import InputError
from stockpot.merging.states import State
from stockpot.workloads.responses import observed, unit_rows

B = TypeVar("B")
_Layer: TypeAlias = nn.Linear | _ConvNd | _BatchNorm
Statistics: TypeAlias = Mapping[str, tuple[Tensor, Tensor]]
"""Mean and standard deviation (C,) of the output channels of each layer, in execution order."""

_CONSTANT = 1e-6  # smaller deviations, relative to mean and goal, are rounding


@dataclass(slots=True)
class Channels:
    """Sums over the activations of C units or channels, in float64."""

    count: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Add the activations on one batch, (..., C, N) in float64."""
        self.count += values.shape[-1]
        self.total = self.total + values.sum(dim=-1)
        self.squares = self.squares + values.square().sum(dim=-1)

    def means_and_variances(self) -> tuple[Tensor, Tensor]:
        """Return means and variances, (..., C) both."""
        means = torch.as_tensor(self.total) / self.count
        return means, torch.as_tensor(self.squares) / self.count - means.square()


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
    BatchNorm become the weighted means of those of the parents, by changes of weight and bias.
    Constant channels are only shifted. Layers without bias are left to the BatchNorm after them.
    A net with BatchNorm needs no recalibration, and its running statistics are not changed.

    Args:
        model: the architecture; it is not changed.
        parents: M aligned nets.
        coefficients: M numbers of at least 0, those of the merge; only their ratios matter.
        merged: the merged net.
        forward: runs a net on a batch, e.g. the workload's.
        batches: train examples in a fixed order, not augmented.

    Returns:
        The state dict of the repaired net.

    Raises:
        InputError: a layer has neither bias nor BatchNorm after it, or shares its weights with
            another; coefficients are invalid; there are no batches.

    Source: Jordan et al. 2022, https://arxiv.org/abs/2211.08403, section 4. The authors measure
    all layers of the merged net in one pass, with batch statistics; here it is done layer by
    layer, so that the inputs of each layer are repaired already. They only recalibrate nets with
    BatchNorm; here layers without BatchNorm are repaired too: the head of a residual net reads
    sums of branches, whose variance is still too small.
    """
    _check(model, batches)
    statistics = [channel_statistics(model, parent, forward, batches) for parent in parents]
    return repair_to(model, statistics, coefficients, merged, forward, batches)


def channel_statistics(
    model: nn.Module,
    state: State,
    forward: Callable[[nn.Module, B], object],
    batches: Sequence[B],
) -> Statistics:
    """Return the statistics of the output channels of a net, in float64; see `repair`."""
    return _measure(loaded(model, state), forward, batches)


def repair_to(
    model: nn.Module,
    statistics: Sequence[Statistics],
    coefficients: Sequence[float],
    merged: State,
    forward: Callable[[nn.Module, B], object],
    batches: Sequence[B],
) -> dict[str, Tensor]:
    """Repair a merged net; as `repair`, with the statistics of its parents instead of them."""
    shares = _shares(coefficients, statistics)
    _check(model, batches)
    net = loaded(model, merged)
    layers = _layers(net)
    for name in _repairable(layers, list(statistics[0])):
        mean, std = _measure(net, forward, batches, only=name)[name]
        parts = zip(*(parent[name] for parent in statistics), strict=True)
        goal_mean, goal_std = (torch.stack(part, dim=1) @ shares.to(std.device) for part in parts)
        is_constant = std <= _CONSTANT * (mean.abs() + goal_std)
        _fuse(layers[name], torch.where(is_constant, 1.0, goal_std / std), mean, goal_mean)
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


def _shares(coefficients: Sequence[float], parents: Sequence[Statistics]) -> Tensor:
    """Return the coefficients divided by their sum; (M,), float64."""
    total = sum(coefficients)
    if len(coefficients) != len(parents) or not (0 < total < math.inf and min(coefficients) >= 0):
        raise InputError(
            f"repair: coefficients must be {len(parents)} finite numbers of at least 0, not all 0, "
            f"got {list(coefficients)!r}"
        )
    return torch.tensor(coefficients, dtype=torch.float64) / total


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
        raise InputError(f"repair: layers must not share weights, got {sorted(layers)}")


def _repairable(layers: Mapping[str, _Layer], order: Sequence[str]) -> list[str]:
    """Return the layers with a bias, in the order of execution."""
    for name, following in pairwise([*order, ""]):
        is_normed = bool(following) and isinstance(layers[following], _BatchNorm)
        if layers[name].bias is None and not is_normed:
            raise InputError(
                "repair: a layer must have a bias, or BatchNorm directly after it, "
                f"got neither for {name!r}"
            )
    return [name for name in order if layers[name].bias is not None]


def _layers(model: nn.Module) -> dict[str, _Layer]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | _ConvNd | _BatchNorm)
    }


def loaded(model: nn.Module, state: State) -> nn.Module:
    """Return a copy of a net with these weights, in eval mode."""
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
    """Return the statistics of the outputs of all layers, or of one."""
    sums: defaultdict[str, Channels] = defaultdict(Channels)

    def add(name: str, layer: nn.Module, _inputs: Tensor, outputs: Tensor) -> None:
        sums[name].add(unit_rows(layer, outputs))

    layers = {name: layer for name, layer in _layers(net).items() if only in {None, name}}
    with observed(layers, add):
        for batch in batches:
            forward(net, batch)
    moments = {name: channels.means_and_variances() for name, channels in sums.items()}
    return {
        name: (mean, variance.clamp(min=0).sqrt()) for name, (mean, variance) in moments.items()
    }


@torch.no_grad()
def _fuse(layer: _Layer, scale: Tensor, mean: Tensor, goal_mean: Tensor) -> None:
    """Change a layer so that its outputs are centred, scaled and shifted to the new mean."""
    assert layer.bias is not None
    per_row = scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    layer.weight.copy_(layer.weight.double() * per_row)
    layer.bias.copy_((layer.bias.double() - mean) * scale + goal_mean)
