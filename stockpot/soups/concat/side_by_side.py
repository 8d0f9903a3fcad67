"""Any number of nets of one form in one wider net, whose outputs are their weighted sum.

Hidden layers become block-diagonal, layers that read the net's input are stacked, and the last
layer adds the nets' outputs. Sequential Training of Neural Networks with Gradient Boosting
(Emami & Martinez-Munoz 2019, https://arxiv.org/abs/1909.12098) collapses its nets in this way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.states import State, StateDict
from stockpot.soups.concat.layers import Layer


def side_by_side(
    states: Sequence[State], coefficients: Sequence[float], layers: Sequence[Layer]
) -> StateDict:
    """Return the weights of the wide net.

    Args:
        states: weights of M nets of one form.
        coefficients: M factors of the nets' outputs; with 1 / M each, the outputs are averaged.
        layers: of the nets, in the order of their calls; the last one is the head.

    Returns:
        The tensors under the nets' own names.

    Raises:
        InputError: the outputs of nets with tied heads cannot be weighted, or tensors of no layer
            differ between nets.
    """
    scaled = _scaled_layer(layers)
    wide: StateDict = {}
    for layer in layers:
        factors = coefficients if layer.name == scaled else [1.0] * len(states)
        for leaf, name in _tensors_of(layer, states[0]).items():
            if layer.is_head and leaf == "bias":
                factors = coefficients  # also of a tied head, whose weight is not scaled
            tensors = [
                _times(state[name], factor) for state, factor in zip(states, factors, strict=True)
            ]
            wide[name] = _joined(tensors, leaf, layer)
    for name in states[0].keys() - wide.keys():
        wide[name] = _constant([state[name] for state in states], name)
    return {name: wide[name] for name in states[0]}


def _scaled_layer(layers: Sequence[Layer]) -> str:
    """Return the layer that takes up the coefficients: the head, or if it is tied, its norm."""
    head = layers[-1]
    if not head.is_tied:
        return head.name
    if len(layers) > 1 and layers[-2].form == "norm":
        return layers[-2].name
    raise InputError(
        f"concat: layer {head.name!r}: its weight is another layer's too, so its outputs can be "
        "weighted only by a norm before it, got none"
    )


def _tensors_of(layer: Layer, state: State) -> dict[str, str]:
    """Return the names of a layer's own tensors, by their last part."""
    prefix = f"{layer.name}." if layer.name else ""
    own = {name.removeprefix(prefix): name for name in state if name.startswith(prefix)}
    return {leaf: name for leaf, name in own.items() if "." not in leaf}


def _times(tensor: Tensor, factor: float) -> Tensor:
    return tensor if factor == 1 else tensor * factor


def _joined(tensors: Sequence[Tensor], leaf: str, layer: Layer) -> Tensor:
    """Join a tensor of all nets by the rule of its layer."""
    is_matrix = leaf == "weight" and layer.form in ("linear", "convolution")
    if tensors[0].ndim == 0:  # BatchNorm's count of batches
        return torch.stack(list(tensors)).amax(dim=0)
    if layer.form == "embedding":
        return torch.cat(list(tensors), dim=1)
    if not layer.is_head:
        return _blocks(tensors) if is_matrix and layer.reads_units else torch.cat(list(tensors))
    if is_matrix and layer.reads_units:
        return torch.cat(list(tensors), dim=1)
    return torch.stack(list(tensors)).double().sum(dim=0).to(tensors[0].dtype)


def _blocks(tensors: Sequence[Tensor]) -> Tensor:
    """Return the block-diagonal weight, of shape (M * out, M * in, ...)."""
    outputs, inputs, *kernel = tensors[0].shape
    wide = tensors[0].new_zeros((len(tensors) * outputs, len(tensors) * inputs, *kernel))
    for net, tensor in enumerate(tensors):
        rows = slice(net * outputs, (net + 1) * outputs)
        wide[rows, net * inputs : (net + 1) * inputs] = tensor
    return wide


def _constant(tensors: Sequence[Tensor], name: str) -> Tensor:
    """Return a tensor of no layer, such as positions, which all nets must share."""
    if all(torch.equal(tensor, tensors[0]) for tensor in tensors):
        return tensors[0].clone()
    raise InputError(
        f"concat: tensor {name!r}: must be equal in all nets, since it belongs to no layer, got "
        "different ones"
    )
