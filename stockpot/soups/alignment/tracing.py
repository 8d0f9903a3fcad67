"""Permutation specs of feed-forward nets, traced with `torch.fx`."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx, nn

from stockpot.errors import InputError
from stockpot.seeding import seeded_generator
from stockpot.soups.alignment.axis_groups import FIXED, AxisGroups, Entry
from stockpot.soups.alignment.invariance import check_invariance
from stockpot.soups.alignment.layer_rules import BY_HAND, Call, has_rule, rule_of
from stockpot.soups.alignment.permutations import Spec


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
    tracer = _AxisTracer(_graph(copied), copied.state_dict().keys())
    with torch.no_grad():
        tracer.run(inputs.cpu())
    spec = _collect(copied, tracer.groups)
    check_invariance(model, spec, inputs, seeded_generator(0, "traced spec"))
    return spec


class _LayerTracer(fx.Tracer):
    """Records a net as a graph of layers; subclasses of torch's layers are not looked into."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return has_rule(m) or super().is_leaf_module(m, module_qualified_name)


def _graph(model: nn.Module) -> fx.GraphModule:
    try:
        return fx.GraphModule(model, _LayerTracer().trace(model))
    except Exception as error:  # a model's code may need values, and then raise anything
        raise InputError(
            f"spec: the net cannot be traced, got {str(error)!r}; {BY_HAND}"
        ) from error


class _AxisTracer(fx.Interpreter):
    """Runs a net once and traces the entries of all axes, node by node."""

    def __init__(self, graph: fx.GraphModule, names: Collection[str]) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # it would be added to the messages of errors
        self.groups = AxisGroups()
        self._names = names
        self._axes: dict[fx.Node, tuple[list[Entry], torch.Size]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self._axes[n] = self._follow(n, result.shape), result.shape
        elif n.op == "output":
            raise InputError(f"spec: a net must return one tensor, got {n.args[0]!r}; {BY_HAND}")
        return result

    def _follow(self, node: fx.Node, shape: torch.Size) -> list[Entry]:
        """Return the entries of a node's result."""
        name = str(node.target)
        if node.op == "get_attr" and name in self._names:
            return self.groups.read(name, shape)
        if node.op in {"placeholder", "get_attr"}:
            # Tensors that are not in the state dict cannot be permuted.
            return [FIXED] * len(shape)
        module = self.module.get_submodule(name) if node.op == "call_module" else None
        inputs = [self._axes[x] for x in node.all_input_nodes if x in self._axes]
        call = Call(node, module, inputs, shape)
        if node.op == "output":
            self.groups.fix(*call.axes)
            return call.axes
        return rule_of(call)(self.groups, call)


def _collect(model: nn.Module, groups: AxisGroups) -> Spec:
    """Return the spec of all tensors; names of one tensor share its entries."""
    tensors = model.state_dict(keep_vars=True)
    names_of: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        names_of.setdefault(id(tensor), []).append(name)
    for names in names_of.values():
        known = [name for name in names if name in groups.tensors]
        for name in names:
            # Tensors that the net never reads are not permuted.
            entries = groups.tensors[known[0]] if known else [FIXED] * tensors[name].ndim
            groups.record(name, entries)
    return {name: tuple(groups.axis(entry) for entry in groups.tensors[name]) for name in tensors}
