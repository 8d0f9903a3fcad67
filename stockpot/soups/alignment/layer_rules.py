"""Rules: the effect of each layer and operation on the order of units."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from stockpot.errors import InputError
from stockpot.soups.alignment.axis_groups import FIXED, AxisGroups, Entry

BY_HAND = "give the spec by hand"


@dataclass(frozen=True, slots=True)
class Call:
    """One node of the graph.

    Attributes:
        node: the node.
        module: the layer that it calls; None for other operations.
        inputs: entries and shape of each input tensor.
        shape: shape of the output tensor.
    """

    node: fx.Node
    module: Any
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

    def without_rule(self) -> InputError:
        """Return the error for a layer or an operation that no rule follows."""
        what = "an operation" if self.module is None else f"layer {self.node.target!r}"
        got = self.node.target if self.module is None else self.module
        return InputError(f"spec: no rule for {what}, got {got!r}; {BY_HAND}")


Rule: TypeAlias = Callable[[AxisGroups, Call], list[Entry]]
"""Returns the entries of the output, and records those of the layer's tensors."""


def _linear(groups: AxisGroups, call: Call) -> list[Entry]:
    written = groups.new(str(call.node.target))
    _record(groups, call, [written, call.axes[-1]])
    return [*call.axes[:-1], written]


def _conv(groups: AxisGroups, call: Call) -> list[Entry]:
    module: _ConvNd = call.module
    if module.transposed or len(call.in_shape) != len(module.kernel_size) + 2:
        raise call.without_rule()
    read = call.axes[1]
    if module.groups == 1:
        written, second = groups.new(str(call.node.target)), read
    else:
        written, second = _grouped(groups, module, read), FIXED
    kernel = [FIXED] * len(module.kernel_size)
    _record(groups, call, [written, second, *kernel])
    groups.fix(*call.axes[2:])
    return [call.axes[0], written, *kernel]


def _grouped(groups: AxisGroups, module: _ConvNd, read: Entry) -> Entry:
    """Return the output entry of a grouped convolution: the input's if depthwise, else fixed."""
    if module.groups == module.in_channels:
        return read[0], read[1] * (module.out_channels // module.in_channels)
    groups.fix(read)
    return FIXED


def _norm_of_channels(groups: AxisGroups, call: Call) -> list[Entry]:
    _record(groups, call, [call.axes[1]])
    return call.axes


def _norm_of_last_axes(groups: AxisGroups, call: Call) -> list[Entry]:
    _record(groups, call, call.axes[len(call.axes) - len(call.module.normalized_shape) :])
    return call.axes


def _group_norm(groups: AxisGroups, call: Call) -> list[Entry]:
    if call.module.num_groups not in {1, call.module.num_channels}:
        groups.fix(call.axes[1])
    return _norm_of_channels(groups, call)


def _record(groups: AxisGroups, call: Call, entries: Sequence[Entry]) -> None:
    """Record the entries of all tensors of a layer: a bias has the first; counters have none."""
    for own, tensor in call.module.state_dict().items():
        groups.record(f"{call.node.target}.{own}", entries[: tensor.ndim])


def _elementwise(groups: AxisGroups, call: Call) -> list[Entry]:
    """Join aligned axes of the operands, except broadcast axes of size 1."""
    met: dict[int, Entry] = {}  # by position from the last axis
    for axes, shape in call.inputs:
        for back, (entry, size) in enumerate(zip(reversed(axes), reversed(shape), strict=True)):
            if size != 1:
                groups.join(met.setdefault(back, entry), entry)
    return [met.get(back, FIXED) for back in reversed(range(len(call.shape)))]


def _pooled(groups: AxisGroups, call: Call) -> list[Entry]:
    """Keep the entries of examples and channels; fix spatial axes."""
    groups.fix(*call.axes[2:])
    return [*call.axes[:2], *[FIXED] * (len(call.shape) - 2)]


def _flattened(groups: AxisGroups, call: Call) -> list[Entry]:
    """Flatten the last axes into one: each unit becomes a block of positions."""
    kept = len(call.shape) - 1
    if call.shape == call.in_shape:
        return call.axes
    if call.shape != (*call.in_shape[:kept], math.prod(call.in_shape[kept:])):
        raise InputError(
            f"spec: only the last axes may be flattened into one, got {tuple(call.in_shape)} to "
            f"{tuple(call.shape)}; {BY_HAND}"
        )
    group, block = call.axes[kept]
    groups.fix(*call.axes[kept + 1 :])
    return [*call.axes[:kept], (group, block * math.prod(call.in_shape[kept + 1 :]))]


def _mean(_: AxisGroups, call: Call) -> list[Entry]:
    """Drop the averaged axes, whose order does not matter."""
    arguments = dict(zip(("dim", "keepdim"), call.node.args[1:], strict=False))
    chosen: Any = {**arguments, **call.node.kwargs}.get("dim")
    every = range(len(call.in_shape))
    dims = every if chosen is None else [chosen] if isinstance(chosen, int) else chosen
    gone = {dim % len(every) for dim in dims}
    if len(call.shape) == len(every):
        return [FIXED if axis in gone else call.axes[axis] for axis in every]
    return [call.axes[axis] for axis in every if axis not in gone]


def _attention(groups: AxisGroups, call: Call) -> list[Entry]:
    """Return the units of the values; join those of queries and keys, and fix positions."""
    if len(call.inputs) != 3:
        raise InputError(
            "spec: attention must have separate queries, keys and values and no mask, got "
            f"{len(call.inputs)} tensors; {BY_HAND}"
        )
    queries, keys, values = (axes for axes, _ in call.inputs)
    groups.join(queries[-1], keys[-1])
    groups.fix(queries[-2], keys[-2], values[-2])
    for axes in (keys, values):
        for one, other in zip(queries[:-2], axes[:-2], strict=True):
            groups.join(one, other)
    return [*queries[:-1], values[-1]]


_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus),
    *(nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d),
)
_POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
)

_MODULE_RULES: Mapping[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    _ConvNd: _conv,
    _BatchNorm: _norm_of_channels,
    nn.LayerNorm: _norm_of_last_axes,
    nn.RMSNorm: _norm_of_last_axes,
    nn.GroupNorm: _group_norm,
    nn.Flatten: _flattened,
    **dict.fromkeys(_ACTIVATIONS, _elementwise),
    **dict.fromkeys(_POOLS, _pooled),
}
"""Rules by type of layer; they apply to subclasses too."""

_TENSOR_RULES: Mapping[Any, Rule] = {
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
"""Rules by function, or by the name of a tensor's method."""


def has_rule(module: nn.Module) -> bool:
    """Return whether there is a rule for a layer."""
    return isinstance(module, tuple(_MODULE_RULES))


def rule_of(call: Call) -> Rule:
    """Return the rule for a node.

    Raises:
        InputError: there is none.
    """
    if call.module is None:
        rule = _TENSOR_RULES.get(call.node.target) if call.inputs else None
    else:
        rules = (rule for kind, rule in _MODULE_RULES.items() if isinstance(call.module, kind))
        rule = next(rules, None)
    if rule is None:
        raise call.without_rule()
    return rule
