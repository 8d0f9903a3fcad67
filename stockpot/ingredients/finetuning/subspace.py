"""Fine-tuning in a random subspace: theta = theta_0 + P z, of which z alone is trained.

Li et al. 2018, "Measuring the intrinsic dimension of objective landscapes",
https://arxiv.org/abs/1804.08838; of fine-tuning as in Aghajanyan et al. 2021,
https://arxiv.org/abs/2012.13255. P depends on `subspace_seed` alone, so the ingredients of a sweep
lie in one subspace, where the mean of their weights is that of their coordinates z.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.name_prefixes import plain_name
from stockpot.ingredients.finetuning.random_projections import Projection, random_projections
from stockpot.ingredients.finetuning.reparametrisation import ComputedTensors, compute
from stockpot.ingredients.finetuning.trained_parts import TrainedParts

COORDINATES = "subspace_coordinates"
"""The name of z, among a model's parameters and in the file that is saved."""


class _Offset(nn.Module):
    """Adds its rows of P z to a tensor."""

    def __init__(self, start: Tensor, projection: Projection, coordinates: nn.Parameter) -> None:
        super().__init__()
        del start
        self._projection = projection
        self._shared = [coordinates]  # in a list, so that it is a parameter of the model alone

    def forward(self, start: Tensor) -> Tensor:
        """Return theta for theta_0."""
        with torch.autocast(start.device.type, enabled=False):
            return start + _offset(self._projection, self._shared[0], start)


def train_in_subspace(
    model: nn.Module, how: Hyperparameters, parts: TrainedParts
) -> ComputedTensors:
    """Make a model's trained parameters a function of `subspace` coordinates, in place.

    The coordinates start at 0, where the model is unchanged to the bit. BatchNorm statistics and
    other buffers are updated as usual.

    Args:
        model: on its device.
        how: the dimension, kind and seed of the subspace.
        parts: the parameters that would be trained without the subspace.

    Raises:
        InputError: the subspace has more dimensions than the model, or does not fit in memory.
    """
    parameters = {name: one for name, one in model.named_parameters() if name in parts.trained}
    sizes = {name: one.numel() for name, one in parameters.items()}
    device = next(iter(parameters.values())).device
    rows = random_projections(sizes, how.subspace, how.subspace_kind, how.subspace_seed, device)
    coordinates = nn.Parameter(torch.zeros(how.subspace, device=device))
    names = compute(
        model,
        {
            name: partial(_Offset, projection=rows[name], coordinates=coordinates)
            for name in parameters
        },
    )
    model.register_parameter(COORDINATES, coordinates)
    # Of all names of tied tensors, also those that the plain model's state dict leaves out.
    fixed = {name for name in model.state_dict() if plain_name(name) != name}
    return ComputedTensors(
        model,
        names,
        TrainedParts(parts.frozen | fixed, frozenset({COORDINATES}), frozenset(), 0),
        {
            "peft_type": "SUBSPACE",
            "dimension": how.subspace,
            "kind": how.subspace_kind,
            "seed": how.subspace_seed,
            "sizes": sizes,
        },
        {COORDINATES: COORDINATES},
    )


def expand(
    base: Mapping[str, Tensor], config: Mapping[str, Any], coordinates: Tensor
) -> dict[str, Tensor]:
    """Return the weights at a point of a subspace, as training computes them.

    Args:
        base: the weights theta_0 that the ingredients started from, on one device.
        config: of a saved ingredient, the content of its `adapter_config.json`.
        coordinates: z, or a mean of the z of several ingredients with equal configs; (d,).

    Returns:
        The trained weights at z; BatchNorm statistics and all other tensors are those of the base.

    Raises:
        InputError: the base lacks a tensor, or the number of coordinates is another one.
    """
    if len(coordinates) != config["dimension"]:
        raise InputError(
            f"coordinates: must be {config['dimension']} numbers, got {len(coordinates)}"
        )
    sizes: Mapping[str, int] = config["sizes"]
    if missing := sorted(sizes.keys() - base.keys()):
        raise InputError(f"base: must have the tensors of the subspace, lacks {missing[:3]}")
    rows = random_projections(
        sizes, config["dimension"], config["kind"], config["seed"], coordinates.device
    )
    moved = {name: base[name] + _offset(rows[name], coordinates, base[name]) for name in sizes}
    return {**base, **moved}


def _offset(projection: Projection, coordinates: Tensor, like: Tensor) -> Tensor:
    return projection(coordinates).view_as(like).to(like.dtype)
