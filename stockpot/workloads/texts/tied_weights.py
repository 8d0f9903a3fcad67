"""Tied weights, such as a language model's embeddings and output layer, as one tensor.

A state dict has a tied parameter once per module that uses it, so merging would average it twice,
and random methods would give its names different values. Here it has one name.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn


def hold_tied_weights_once(net: nn.Module) -> None:
    """Make the state dict of `net` name tied parameters once, and loading it tie them again.

    Their name is the first one, as in `named_parameters()`.
    """
    first = {id(parameter): name for name, parameter in net.named_parameters()}
    tied = {
        name: first[id(parameter)]
        for name, parameter in net.named_parameters(remove_duplicate=False)
        if name != first[id(parameter)]
    }
    if tied:
        hooked: Any = net  # torch leaves these methods untyped
        hooked.register_state_dict_post_hook(partial(_drop_tied, tied))
        hooked.register_load_state_dict_pre_hook(partial(_add_tied, tied))
        hooked.register_load_state_dict_post_hook(partial(_tie, tied))


def _drop_tied(
    tied: Mapping[str, str], _net: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any
) -> None:
    for name in tied:
        state.pop(prefix + name, None)


def _add_tied(
    tied: Mapping[str, str], _net: nn.Module, state: dict[str, Any], prefix: str, *_rest: Any
) -> None:
    for name, source in tied.items():
        if prefix + source in state:
            state[prefix + name] = state[prefix + source]


def _tie(tied: Mapping[str, str], net: nn.Module, _incompatible: Any) -> None:
    """Share one parameter again after loading has given each module its own.

    Weights that are computed from others while they are fine-tuned are no parameters.
    """
    for name, source in tied.items():
        module, _, leaf = name.rpartition(".")
        owner = net.get_submodule(module)
        if leaf in dict(owner.named_parameters(recurse=False)):
            setattr(owner, leaf, net.get_parameter(source))
