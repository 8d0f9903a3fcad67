"""Rules: the effect of each layer and operation on the order of units."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from stockpot.errors import InputError
from stockpot.soups.alignment.axis_groups import FIXED, AxisGroups, Entry


@dataclass(slots=True)
class Following:
    """The state of a trace: groups of axes, and the entries of the net's tensors."""

    groups: AxisGroups
    tensors: dict[str, list[Entry]] = field(default_factory=dict)

    def record(self, name: str, entries: Sequence[Entry]) -> None:
        """Record the entries of a tensor; several uses of one tensor are joined."""
        known = self.tensors.setdefault(name, list(entries))
        self.groups.join_all(known, entries)

    def read(self, name: str, shape: torch.Size) -> list[Entry]:
        """Return the entries of a tensor that the net uses outside a layer."""
        if name not in self.tensors:
            self.tensors[name] = [
                FIXED if size == 1 else self.groups.new(f"{name}:{axis}")
                for axis, size in enumerate(shape)
            ]
        return self.tensors[name]


@dataclass(frozen=True, slots=True)
class Call:
    """One node of the graph.

    Attributes:
        node: the node.
        inputs: entries and shape of each input tensor.
        shape: shape of the output tensor.
    """

    node: fx.Node
    inputs: Sequence[tuple[list[Entry], torch.Size]]
    shape: torch.Size

    @property
    def axes(self) -> list[Entry]:
        """The entries of the first input tensor."""
        return list(self.inputs[0][0])

    @property
    def in_shape(self) -> torch.Size:
        """The shape of the first input tensor."""
        return self.inputs[0][1]


ModuleRule: TypeAlias = Callable[[Following, Call, str, Any], list[Entry]]
TensorRule: TypeAlias = Callable[[Following, Call], list[Entry]]


def _linear(following: Following, call: Call, name: str, module: nn.Linear) -> list[Entry]:
    read, written = call.axes[-1], following.groups.new(name)
    following.record(f"{name}.weight", [written, read])
    if module.bias is not None:
        following.record(f"{name}.bias", [written])
    return [*call.axes[:-1], written]


def _conv(following: Following, call: Call, name: str, module: _ConvNd) -> list[Entry]:
    if module.transposed or len(call.in_shape) != len(module.kernel_size) + 2:
        raise InputError(f"spec: no rule for layer {name!r}, got {module!r}; give the spec by hand")
    read = call.axes[1]
    if module.groups == 1:
        written, second = following.groups.new(name), read
    else:
        written, second = _grouped(following, module, read), FIXED
    kernel = [FIXED] * len(module.kernel_size)
    following.record(f"{name}.weight", [written, second, *kernel])
    if module.bias is not None:
        following.record(f"{name}.bias", [written])
    for entry in call.axes[2:]:
        following.groups.fix(entry)
    return [call.axes[0], written, *kernel]


def _grouped(following: Following, module: _ConvNd, read: Entry) -> Entry:
    """Return the output entry of a grouped convolution: the input's if depthwise, else fixed."""
    if module.groups == module.in_channels:
        return read[0], read[1] * (module.out_channels // module.in_channels)
    following.groups.fix(read)
    return FIXED


def _batch_norm(following: Following, call: Call, name: str, module: _BatchNorm) -> list[Entry]:
    _record_all(following, name, module, [call.axes[1]])
    return call.axes


def _norm_of_last_axes(
    following: Following, call: Call, name: str, module: nn.LayerNorm
) -> list[Entry]:
    _record_all(following, name, module, call.axes[len(call.axes) - len(module.normalized_shape) :])
    return call.axes


def _group_norm(following: Following, call: Call, name: str, module: nn.GroupNorm) -> list[Entry]:
    if module.num_groups not in {1, module.num_channels}:
        following.groups.fix(call.axes[1])
    _record_all(following, name, module, [call.axes[1]])
    return call.axes


def _record_all(
    following: Following, name: str, module: nn.Module, entries: Sequence[Entry]
) -> None:
    """Record the entries of all tensors of a norm; counters have no axes."""
    for own, tensor in module.state_dict().items():
        following.record(f"{name}.{own}", entries if tensor.ndim else [])


def _elementwise(following: Following, call: Call) -> list[Entry]:
    """Join aligned axes of the operands, except broadcast axes of size 1."""
    result = [FIXED] * len(call.shape)
    is_met = [False] * len(call.shape)
    for axes, shape in call.inputs:
        for back in range(1, len(shape) + 1):
            if shape[-back] == 1:
                continue
            if is_met[-back]:
                following.groups.join(result[-back], axes[-back])
            result[-back], is_met[-back] = axes[-back], True
    return result


def _pooled(following: Following, call: Call) -> list[Entry]:
    """Keep the entries of examples and channels; fix spatial axes."""
    for entry in call.axes[2:]:
        following.groups.fix(entry)
    return [*call.axes[:2], *[FIXED] * (len(call.shape) - 2)]


def _flattened(following: Following, call: Call) -> list[Entry]:
    """Flatten the last axes into one: each unit becomes a block of positions."""
    kept = len(call.shape) - 1
    if call.shape == call.in_shape:
        return call.axes
    if call.shape != (*call.in_shape[:kept], math.prod(call.in_shape[kept:])):
        raise InputError(
            f"spec: only the last axes may be flattened into one, got {tuple(call.in_shape)} to "
            f"{tuple(call.shape)}; give the spec by hand"
        )
    group, block = call.axes[kept]
    for entry in call.axes[kept + 1 :]:
        following.groups.fix(entry)
    return [*call.axes[:kept], (group, block * math.prod(call.in_shape[kept + 1 :]))]


def _mean(_: Following, call: Call) -> list[Entry]:
    """Drop the averaged axes, whose order does not matter."""
    arguments = dict(zip(("dim", "keepdim"), call.node.args[1:], strict=False))
    chosen: Any = {**arguments, **call.node.kwargs}.get("dim")
    every = range(len(call.in_shape))
    dims = every if chosen is None else [chosen] if isinstance(chosen, int) else chosen
    gone = {dim % len(every) for dim in dims}
    if len(call.shape) == len(every):
        return [FIXED if axis in gone else call.axes[axis] for axis in every]
    return [call.axes[axis] for axis in every if axis not in gone]


def _attention(following: Following, call: Call) -> list[Entry]:
    """Return the units of the values; join those of queries and keys, and fix positions."""
    if len(call.inputs) != 3:
        raise InputError(
            "spec: attention must have separate queries, keys and values and no mask, got "
            f"{len(call.inputs)} tensors; give the spec by hand"
        )
    queries, keys, values = (axes for axes, _ in call.inputs)
    following.groups.join(queries[-1], keys[-1])
    for axes in (queries, keys, values):
        following.groups.fix(axes[-2])
    for axes in (keys, values):
        for one, other in zip(queries[:-2], axes[:-2], strict=True):
            following.groups.join(one, other)
    return [*queries[:-1], values[-1]]


def _ignoring_module(rule: TensorRule) -> ModuleRule:
    return lambda following, call, _name, _module: rule(following, call)


_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus),
    *(nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d),
)
_POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
)

MODULE_RULES: Mapping[type[nn.Module], ModuleRule] = MappingProxyType(
    {
        nn.Linear: _linear,
        _ConvNd: _conv,
        _BatchNorm: _batch_norm,
        nn.LayerNorm: _norm_of_last_axes,
        nn.RMSNorm: _norm_of_last_axes,
        nn.GroupNorm: _group_norm,
        nn.Flatten: _ignoring_module(_flattened),
        **dict.fromkeys(_ACTIVATIONS, _ignoring_module(_elementwise)),
        **dict.fromkeys(_POOLS, _ignoring_module(_pooled)),
    }
)
"""Rules by type of layer; they apply to subclasses too."""

TENSOR_RULES: Mapping[Any, TensorRule] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *(operator.add, operator.iadd, operator.sub, operator.mul, operator.imul),
                *(operator.truediv, operator.neg, torch.add, torch.sub, torch.mul, torch.div),
                *("add", "add_", "sub", "mul", "mul_", "div", "contiguous", "clone"),
                *(torch.relu, torch.tanh, torch.sigmoid, "relu", "relu_", "tanh", "sigmoid"),
                *(functional.relu, functional.relu6, functional.leaky_relu, functional.elu),
                *(functional.gelu, functional.silu, functional.mish, functional.softplus),
                *(functional.tanh, functional.sigmoid, functional.hardswish, functional.dropout),
            ),
            _elementwise,
        ),
        **dict.fromkeys(
            (
                *(functional.max_pool1d, functional.max_pool2d),
                *(functional.avg_pool1d, functional.avg_pool2d),
                *(functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d),
                *(functional.adaptive_max_pool1d, functional.adaptive_max_pool2d),
            ),
            _pooled,
        ),
        **dict.fromkeys((torch.flatten, torch.reshape, "flatten", "view", "reshape"), _flattened),
        **dict.fromkeys((torch.mean, "mean"), _mean),
        functional.scaled_dot_product_attention: _attention,
    }
)
"""Rules by function, or by the name of a tensor's method."""
