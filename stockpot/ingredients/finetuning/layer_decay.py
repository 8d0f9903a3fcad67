"""Learning rates that fall from the last layer to the first (Howard & Ruder 2018, section 3.2).

https://arxiv.org/abs/1801.06146; per block of a transformer as in BEiT (Bao et al. 2022).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from torch import nn

from stockpot.ingredients.finetuning.name_prefixes import plain_name

_NUMBERED = re.compile(r"^(?:.*?\.)?\d+(?=\.)")


def parameter_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Group the trained parameters by layer for an optimizer; `lr_scale` is decay^depth.

    Args:
        model: parameters that need no gradient are left out.
        decay: factor from a layer to the one before it, in (0, 1]; 1 makes one group.
    """
    named = dict(model.named_parameters())
    if decay == 1:
        trained = [parameter for parameter in named.values() if parameter.requires_grad]
        return [{"params": trained, "lr_scale": 1.0}]
    layers: dict[str, list[nn.Parameter]] = {}
    own_names = [plain_name(name) for name in named]
    for layer, parameter in zip(layers_of(own_names), named.values(), strict=True):
        if parameter.requires_grad:
            layers.setdefault(layer, []).append(parameter)
    return [
        {"params": parameters, "lr_scale": decay ** (len(layers) - 1 - place)}
        for place, parameters in enumerate(layers.values())
    ]


def layers_of(names: Sequence[str]) -> list[str]:
    """Return the layer of each parameter, by its name.

    A layer is a numbered module, such as a transformer block, or else the largest module that
    contains neither a numbered module nor all parameters.
    """
    numbered = [found[0] for name in names if (found := _NUMBERED.match(name))]
    above = {prefix for layer in numbered for prefix in _prefixes(layer)[:-1]}
    above |= set.intersection(*(set(_prefixes(name)) for name in names))
    return [_layer(name, above) for name in names]


def _layer(name: str, above: set[str]) -> str:
    if found := _NUMBERED.match(name):
        return found[0]
    return next((prefix for prefix in _prefixes(name) if prefix not in above), name)


def _prefixes(name: str) -> list[str]:
    """Return the names of a tensor's modules, outermost first, and its own name."""
    return [*accumulate(name.split("."), "{}.{}".format)]
