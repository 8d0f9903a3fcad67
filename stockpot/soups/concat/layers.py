"""The layers of a net and what they read and write, observed during one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from stockpot.errors import InputError
from stockpot.workloads.wide_nets import is_norm_of_units

_FORMS: tuple[tuple[str, Callable[[nn.Module], bool]], ...] = (
    ("linear", lambda layer: type(layer) is nn.Linear),
    ("embedding", lambda layer: isinstance(layer, nn.Embedding)),
    ("transposed", lambda layer: isinstance(layer, _ConvTransposeNd)),
    ("grouped", lambda layer: isinstance(layer, _ConvNd) and layer.groups > 1),
    ("convolution", lambda layer: isinstance(layer, _ConvNd)),
    ("channels", lambda layer: isinstance(layer, _NormBase | nn.GroupNorm)),
    ("norm", is_norm_of_units),
)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that has tensors of its own.

    Attributes:
        name: in the net.
        form: linear, convolution, grouped (a convolution in groups), embedding, channels (a norm
            over channels: BatchNorm, GroupNorm) or norm (over units: LayerNorm, RMSNorm).
        reads_units: whether its input is what other layers have computed, not the net's input.
        is_head: whether it computes the net's outputs.
        is_tied: whether its weight is another layer's as well.
    """

    name: str
    form: str
    reads_units: bool = False
    is_head: bool = False
    is_tied: bool = False


def observe_layers(net: nn.Module, run: Callable[[], Any]) -> list[Layer]:
    """Return a net's layers in the order in which they are first called.

    Args:
        net: in eval mode, on the device of its inputs. The last layer that is called is its head.
        run: calls the net on a batch.

    Raises:
        InputError: a layer cannot be put side by side; the message names it.
    """
    found: dict[str, Layer] = {}
    owners = {name: module for name, module in net.named_modules() if _own_tensors(module)}
    hooks = [
        module.register_forward_pre_hook(partial(_note, found, name), with_kwargs=True)
        for name, module in owners.items()
    ]
    try:
        with torch.enable_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise InputError("concat: needs a net with layers, got one that calls none")
    *body, head = found.values()
    layers = [*body, replace(head, is_head=True)]
    tied = _tied_layers(net)
    layers = [replace(layer, is_tied=layer.name in tied) for layer in layers]
    for layer in layers:
        _check(layer, owners[layer.name])
    unread = [name for name in owners if name not in found and _has_weights(owners[name])]
    if unread:
        raise InputError(
            f"concat: layer {unread[0]!r} of {type(net).__name__}: must be called in a forward "
            "pass, got one that is not, or tensors the net reads itself; use an ensemble"
        )
    return layers


def _note(
    found: dict[str, Layer], name: str, module: nn.Module, args: Any, kwargs: dict[str, Any]
) -> None:
    inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    form = next((form for form, fits in _FORMS if fits(module)), type(module).__name__)
    seen = Layer(name, form, any(value.requires_grad for value in inputs))
    if found.setdefault(name, seen) != seen:
        raise InputError(
            f"concat: layer {name!r} must be called on one kind of input, got the net's own input "
            "and units of other layers"
        )
    found[name] = found.pop(name)  # by its last call: the head is called last


def _own_tensors(module: nn.Module) -> list[Tensor]:
    state = module.state_dict(keep_vars=True)
    return [tensor for name, tensor in state.items() if "." not in name]


def _has_weights(module: nn.Module) -> bool:
    return any(tensor.is_floating_point() for tensor in _own_tensors(module))


def _tied_layers(net: nn.Module) -> set[str]:
    names: dict[int, list[str]] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name.rpartition(".")[0])
    return {name for each in names.values() if len(each) > 1 for name in each}


def _check(layer: Layer, module: nn.Module) -> None:
    """Require a layer that has a rule."""
    where = f"concat: layer {layer.name!r}" if layer.name else "concat: the net itself"
    forms = ("linear", "embedding", "convolution", "grouped", "channels", "norm")
    if layer.form not in forms:
        raise InputError(
            f"{where}: nets can be put side by side if all that have tensors of their own are "
            f"linear layers, embeddings, convolutions or norms, got {type(module).__name__}; use "
            "an ensemble"
        )
    if layer.is_head and layer.form not in ("linear", "convolution"):
        raise InputError(f"{where}: the last layer must be linear, got {type(module).__name__}")
    if layer.form == "grouped" and not layer.reads_units:
        raise InputError(
            f"{where}: a convolution in groups must lie between other layers, got one that reads "
            "the net's own input"
        )
