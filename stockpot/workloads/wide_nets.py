"""Wide nets: a workload's net whose layers hold several nets of its form side by side.

Their state dict has the names of the ordinary net, with every hidden axis as many times as long, so
that the weights alone say how many nets they hold. Layers that compute with their tensors' shapes
need nothing else; a norm over units would mix the nets, so it is replaced by one norm per net.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.conv import _ConvNd

_ORDINARY = "_ordinary_form"  # attribute of a widened net or layer


def fit_widths(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give the layers of a workload's net the widths of weights, in place.

    A net that was widened before gets its ordinary form again if the weights have it.

    Args:
        model: the net, ordinary or wide.
        weights: of the ordinary net, or of a wide one. Weights of another form change nothing, so
            that loading them fails with torch's message.
    """
    now = _shapes(model)
    if all(name not in now or now[name] == tensor.shape for name, tensor in weights.items()):
        return
    ordinary = ordinary_shapes(model)
    num_nets = count_nets(ordinary, {name: tensor.shape for name, tensor in weights.items()})
    if num_nets is None:
        return
    setattr(model, _ORDINARY, ordinary)
    _fit_norms(model, num_nets)
    _fit_groups(model, num_nets)
    _fit_tensors(model, weights)


def ordinary_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Return the shapes of a net's tensors in its ordinary form, which it may have now."""
    found: dict[str, torch.Size] = getattr(model, _ORDINARY, None) or _shapes(model)
    return found


def count_nets(ordinary: Mapping[str, torch.Size], shapes: Mapping[str, torch.Size]) -> int | None:
    """Return how many nets weights hold side by side; None if they are not of the net's form.

    In a wide net, the layer that computes the outputs reads the units of all nets and has as many
    outputs as that of one. So weights with other classes are not those of a wide net.

    Args:
        ordinary: shapes of the net's tensors by name.
        shapes: of the weights.
    """
    if ordinary.keys() != shapes.keys():
        return None
    factors, has_head = set(), False
    for name, shape in shapes.items():
        own = ordinary[name]
        if len(own) != len(shape):
            return None
        factors |= {new / old for new, old in zip(shape, own, strict=True) if new != old}
        has_head |= len(own) > 1 and shape[0] == own[0] and shape[1] != own[1]
    if not factors:
        return 1
    if len(factors) > 1 or not has_head or any(factor != int(factor) for factor in factors):
        return None
    return int(factors.pop())


class NormPerNet(nn.Module):
    """A norm over units, applied to each of several nets' units by itself.

    Its parameters have the names of the norm's own and hold those of all nets, one after another.
    """

    def __init__(self, norm: nn.Module, num_nets: int) -> None:
        super().__init__()
        self.one: nn.Module
        object.__setattr__(self, "one", norm)  # not a submodule: it would be in the state dict
        self.num_nets = num_nets
        parameters = dict(norm.named_parameters(recurse=False))
        self.first_axis = -max((p.ndim for p in parameters.values()), default=1)
        for name, parameter in parameters.items():
            self.register_parameter(name, nn.Parameter(_longer(parameter, num_nets)))

    def forward(self, units: Tensor) -> Tensor:
        """Normalise each net's units; shape and dtype of the input."""
        parameters = dict(self.named_parameters(recurse=False))
        norm: Any = self.one
        own = [
            {name: parameter.chunk(self.num_nets)[net] for name, parameter in parameters.items()}
            for net in range(self.num_nets)
        ]
        parts = units.chunk(self.num_nets, dim=self.first_axis)
        normed = [functional_call(norm, p, (part,)) for p, part in zip(own, parts, strict=True)]
        return torch.cat(normed, dim=self.first_axis)


def is_norm_of_units(module: nn.Module) -> bool:
    """Whether a layer is a LayerNorm or an RMSNorm, by type or, as in transformers, by name."""
    if isinstance(module, nn.LayerNorm | nn.RMSNorm | NormPerNet):
        return True
    return type(module).__name__.endswith(("RMSNorm", "LayerNorm"))


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict(keep_vars=True).items()}


def _longer(tensor: Tensor, factor: int) -> Tensor:
    return tensor.new_empty((factor * tensor.shape[0], *tensor.shape[1:]))


def _fit_norms(model: nn.Module, num_nets: int) -> None:
    for name, module in list(model.named_modules()):
        if name and is_norm_of_units(module):
            parent, _, leaf = name.rpartition(".")
            one: nn.Module = module.one if isinstance(module, NormPerNet) else module
            new: nn.Module = one if num_nets == 1 else NormPerNet(one, num_nets)
            setattr(model.get_submodule(parent), leaf, new.train(module.training))


def _fit_groups(model: nn.Module, num_nets: int) -> None:
    """Multiply the numbers of groups: of GroupNorm, and of convolutions that have more than one."""
    for module in model.modules():
        name = "num_groups" if isinstance(module, nn.GroupNorm) else "groups"
        if isinstance(module, nn.GroupNorm) or (isinstance(module, _ConvNd) and module.groups > 1):
            one = getattr(module, _ORDINARY, getattr(module, name))
            setattr(module, _ORDINARY, one)
            setattr(module, name, one * num_nets)


def _fit_tensors(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Replace parameters and buffers by ones of the weights' shapes; tied ones stay tied."""
    new: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}  # by id; the old one keeps its id
    for prefix, module in model.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            like = weights.get(f"{prefix}.{name}" if prefix else name)
            if isinstance(tensor, nn.Parameter):
                if like is not None and like.shape != tensor.shape and id(tensor) not in new:
                    empty = tensor.new_empty(like.shape)
                    wide = nn.Parameter(empty, requires_grad=tensor.requires_grad)
                    new[id(tensor)] = (tensor, wide)
                module._parameters[name] = new[id(tensor)][1] if id(tensor) in new else tensor
            elif tensor is not None and like is not None and like.shape != tensor.shape:
                module._buffers[name] = tensor.new_empty(like.shape)
