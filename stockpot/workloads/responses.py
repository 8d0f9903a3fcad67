"""What the layers of a net read and write while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeAlias

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

Note: TypeAlias = Callable[[str, nn.Module, Tensor, Tensor], None]
"""Is told a layer's name, the layer, the first thing it read, and what it wrote."""


@contextmanager
def watched(layers: Mapping[str, nn.Module], note: Note) -> Iterator[None]:
    """Call `note` each time one of the layers has run; afterwards the layers are as before.

    A layer that does not take and return a tensor, as attention with its weights, is passed over.
    """
    with ExitStack() as hooks:
        for name, layer in layers.items():
            handle = layer.register_forward_hook(partial(_tell, note, name))
            hooks.callback(handle.remove)
        yield


def unit_rows(layer: nn.Module, values: Tensor) -> Tensor:
    """Return what each unit or channel of a layer did; (C, N), float64, N examples and places."""
    is_channels_first = isinstance(layer, _ConvNd | _NormBase | nn.GroupNorm)
    return values.detach().double().movedim(1 if is_channels_first else -1, 0).flatten(1)


def _tell(
    note: Note, name: str, layer: nn.Module, inputs: tuple[object, ...], outputs: object
) -> None:
    if inputs and isinstance(inputs[0], Tensor) and isinstance(outputs, Tensor):
        note(name, layer, inputs[0], outputs)
