"""REPAIR: gives the channels of a merged net the statistics that those of its parents have."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from stockpot.alignment.batch_norm import batch_norms
from stockpot.errors import InputError

B = TypeVar("B")
State: TypeAlias = Mapping[str, Tensor]
_Layer: TypeAlias = nn.Linear | _ConvNd
_CONSTANT = 1e-6  # a smaller deviation, relative to mean and aim, is rounding


@dataclass(slots=True)
class _Channels:
    """Sums over all that a layer put out, channel by channel, in float64."""

    count: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, outputs: Tensor, dim: int) -> None:
        """Add the outputs of one batch."""
        values = outputs.detach().double().movedim(dim, 0).flatten(1)  # (C, N)
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
    parents: tuple[State, State],
    merged: State,
    share: float,
    forward: Callable[[nn.Module, B], object],
    batches: Sequence[B],
) -> dict[str, Tensor]:
    """Scale and shift each channel of a merged net to the mean statistics of its parents.

    Mean and standard deviation of each output channel of each linear layer and convolution
    become (1 - share) times those of the first parent plus share times those of the second; the
    scale and the shift go into weight and bias. A channel that is constant is only shifted.

    Args:
        model: the architecture; it stays as it is.
        parents: two aligned nets.
        merged: their merge.
        share: of the second parent in it, in [0, 1].
        forward: runs a net on a batch, e.g. the workload's.
        batches: train examples in a fixed order, not augmented.

    Returns:
        The state dict of the repaired net.

    Raises:
        InputError: the net has BatchNorm (recalibrate it instead), a layer without bias or
            weights shared by two layers; the share is out of range; there are no batches.

    Source: Jordan et al. 2022, https://arxiv.org/abs/2211.08403, section 4. The authors measure
    all layers of the merged net in one pass, with batch statistics; we go layer by layer, so
    that each one is measured behind layers that are repaired already.
    """
    _check(model, share, batches)
    goals = [_measure(_loaded(model, parent), forward, batches) for parent in parents]
    net = _loaded(model, merged)
    for name in goals[0]:
        mean, std = _measure(net, forward, batches, only=name)[name]
        aim_mean, aim_std = (
            (1 - share) * first + share * second
            for first, second in zip(goals[0][name], goals[1][name], strict=True)
        )
        is_constant = std <= _CONSTANT * (mean.abs() + aim_std)
        _fuse(_layers(net)[name], torch.where(is_constant, 1.0, aim_std / std), mean, aim_mean)
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


def _check(model: nn.Module, share: float, batches: Sequence[object]) -> None:
    if not 0 <= share <= 1:
        raise InputError(f"repair: share must be in [0, 1], got {share!r}")
    if not batches:
        raise InputError("repair: batches must be at least 1, got 0")
    if batch_norms(model):
        raise InputError("repair: a net must have no BatchNorm, got some; recalibrate it instead")
    layers = _layers(model)
    for name, layer in layers.items():
        if layer.bias is None:
            raise InputError(
                f"repair: a layer must have a bias to be shifted, got none in {name!r}"
            )
        if isinstance(layer, _ConvNd) and layer.transposed:
            raise InputError(f"repair: a convolution must not be transposed, got {name!r}")
    if len({id(layer.weight) for layer in layers.values()}) < len(layers):
        raise InputError(f"repair: layers must share no weights, got {sorted(layers)} that do")


def _layers(model: nn.Module) -> dict[str, _Layer]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | _ConvNd)
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
    handles = [
        layer.register_forward_hook(partial(_add_outputs, sums, name))
        for name, layer in _layers(net).items()
        if only in {None, name}
    ]
    for batch in batches:
        forward(net, batch)
    for handle in handles:
        handle.remove()
    return {name: channels.mean_and_std() for name, channels in sums.items()}


def _add_outputs(
    sums: dict[str, _Channels], name: str, layer: nn.Module, _inputs: object, outputs: Tensor
) -> None:
    dim = -1 if isinstance(layer, nn.Linear) else 1
    sums.setdefault(name, _Channels()).add(outputs, dim)


@torch.no_grad()
def _fuse(layer: _Layer, scale: Tensor, mean: Tensor, aim_mean: Tensor) -> None:
    """Change a layer so that it puts out its old outputs, less the mean, scaled and shifted."""
    assert layer.bias is not None
    per_row = scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    layer.weight.copy_(layer.weight.double() * per_row)
    layer.bias.copy_((layer.bias.double() - mean) * scale + aim_mean)
