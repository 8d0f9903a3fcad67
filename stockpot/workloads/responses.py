"""Inputs and outputs of the layers of a net during a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeAlias

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

Callback: TypeAlias = Callable[[str, nn.Module, Tensor, Tensor], None]
"""Called with a layer's name, the layer, its first input and its output."""


@contextmanager
def observed(layers: Mapping[str, nn.Module], callback: Callback) -> Iterator[None]:
    """Call `callback` each time one of the layers has run, until the context is left.

    Calls that do not take and return a tensor, such as attention with its weights, are ignored.
    """
    with ExitStack() as hooks:
        for name, layer in layers.items():
            handle = layer.register_forward_hook(partial(_call, callback, name))
            hooks.callback(handle.remove)
        yield


def unit_rows(layer: nn.Module, values: Tensor) -> Tensor:
    """Return a layer's outputs per unit or channel; (C, N), float64, N examples and positions."""
    is_channels_first = isinstance(layer, _ConvNd | _NormBase | nn.GroupNorm)
    return values.detach().double().movedim(1 if is_channels_first else -1, 0).flatten(1)


def _call(
    callback: Callback, name: str, layer: nn.Module, inputs: tuple[object, ...], outputs: object
) -> None:
    if inputs and isinstance(inputs[0], Tensor) and isinstance(outputs, Tensor):
        callback(name, layer, inputs[0], outputs)
