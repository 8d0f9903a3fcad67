"""Permutation specs of feed-forward nets, traced with `torch.fx`."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from stockpot.errors import InputError
from stockpot.seeding import seeded_generator
from stockpot.soups.alignment.axis_groups import FIXED, AxisGroups, Entry
from stockpot.soups.alignment.invariance import check_invariance
from stockpot.soups.alignment.layer_rules import MODULE_RULES, TENSOR_RULES, Call, Following
from stockpot.soups.alignment.permutations import Spec

_BY_HAND = "give the spec by hand"


def trace_spec(model: nn.Module, inputs: Tensor) -> Spec:
    """Build the permutation spec of a net, and check it on the inputs.

    Supported are linear layers, convolutions, BatchNorm, LayerNorm, RMSNorm, GroupNorm, pooling,
    elementwise functions, sums and products of tensors, flattening, means and attention with one
    head. Units that are added share a permutation, which is named after the first layer that
    writes them. Channels in groups of a grouped convolution or GroupNorm are not permuted, nor are
    the net's inputs and outputs.

    Args:
        model: a net that takes one tensor and returns one; it is not changed.
        inputs: a batch of at least one example.

    Raises:
        InputError: the net cannot be traced, uses unsupported operations, or the check fails.
    """
    copied = copy.deepcopy(model).cpu().eval()
    graph = _graph(copied)
    follower = _Follower(graph, copied.state_dict().keys(), _shapes(graph, inputs.cpu()))
    spec = _collect(copied, follower.follow_all())
    check_invariance(model, spec, inputs, seeded_generator(0, "traced spec"))
    return spec


def _graph(model: nn.Module) -> fx.GraphModule:
    try:
        return fx.symbolic_trace(model)
    except (fx.proxy.TraceError, TypeError) as error:
        raise InputError(
            f"spec: the net cannot be traced, got {str(error)!r}; {_BY_HAND}"
        ) from error


@torch.no_grad()
def _shapes(graph: fx.GraphModule, inputs: Tensor) -> dict[fx.Node, torch.Size]:
    """Run the net once and return the shape of each node whose result is a tensor."""
    runner = _ShapeRecorder(graph)
    runner.run(inputs)
    return runner.shapes


class _ShapeRecorder(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.shapes: dict[fx.Node, torch.Size] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = result.shape
        return result


class _Follower:
    """Traces the entries of all axes, node by node."""

    def __init__(
        self,
        graph: fx.GraphModule,
        names: Collection[str],
        shapes: Mapping[fx.Node, torch.Size],
    ) -> None:
        self._graph = graph
        self._names = names
        self._shapes = shapes
        self._axes: dict[fx.Node, list[Entry]] = {}
        self._following = Following(AxisGroups())

    def follow_all(self) -> Following:
        """Trace the whole net."""
        for node in self._graph.graph.nodes:
            if node in self._shapes:
                self._axes[node] = self._follow(node, self._shapes[node])
            elif node.op == "output":
                raise InputError(
                    f"spec: a net must return one tensor, got {node.args[0]!r}; {_BY_HAND}"
                )
        return self._following

    def _follow(self, node: fx.Node, shape: torch.Size) -> list[Entry]:
        """Return the entries of a node's result."""
        name = str(node.target)
        if node.op == "placeholder":
            return [FIXED] * len(shape)
        if node.op == "get_attr":
            # Tensors that are not in the state dict cannot be permuted.
            is_known = name in self._names
            return self._following.read(name, shape) if is_known else [FIXED] * len(shape)
        operands = [x for x in node.all_input_nodes if x in self._axes]
        call = Call(node, [(self._axes[x], self._shapes[x]) for x in operands], shape)
        if node.op == "output":
            for entry in call.axes:
                self._following.groups.fix(entry)
            return call.axes
        if node.op == "call_module":
            return self._follow_module(name, self._graph.get_submodule(name), call)
        return self._follow_function(node, call)

    def _follow_module(self, name: str, module: nn.Module, call: Call) -> list[Entry]:
        for kind, rule in MODULE_RULES.items():
            if isinstance(module, kind):
                return rule(self._following, call, name, module)
        raise InputError(f"spec: no rule for layer {name!r}, got {module!r}; {_BY_HAND}")

    def _follow_function(self, node: fx.Node, call: Call) -> list[Entry]:
        rule = TENSOR_RULES.get(node.target)
        if rule is None or not call.inputs:
            raise InputError(f"spec: no rule for an operation, got {node.target!r}; {_BY_HAND}")
        return rule(self._following, call)


def _collect(model: nn.Module, following: Following) -> Spec:
    """Return the spec of all tensors; names of one tensor share its entries."""
    tensors = model.state_dict(keep_vars=True)
    for names in _names_by_tensor(tensors).values():
        known = [name for name in names if name in following.tensors]
        for name in names:
            # Tensors that the net never reads are not permuted.
            entries = following.tensors[known[0]] if known else [FIXED] * tensors[name].ndim
            following.record(name, entries)
    return {
        name: tuple(following.groups.axis(entry) for entry in following.tensors[name])
        for name in tensors
    }


def _names_by_tensor(tensors: Mapping[str, Tensor]) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)
    return names
