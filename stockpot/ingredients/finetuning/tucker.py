"""Tucker adapters for layers of any number of axes (FLoRA: Si et al. 2024).

https://arxiv.org/abs/2405.14739. The change of a weight is s * G x_1 U_1 ... x_d U_d: a small core
tensor G, multiplied along each axis by a factor U, so a convolution keeps its structure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Generator, Tensor, nn

from stockpot.ingredients.finetuning.adapted_layers import Layers
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.reparametrisation import ComputedTensors, compute
from stockpot.ingredients.finetuning.trained_parts import TrainedParts
from stockpot.seeding import seeded_generator


class TuckerChange(nn.Module):
    """Adds a change in Tucker form to a weight.

    Attributes:
        core: G, (r_1, ..., r_d); starts as 0, so the change does.
        factors: U_k, (n_k, r_k) for an axis of size n_k; Kaiming normal with a = sqrt(3).
    """

    def __init__(self, weight: Tensor, *, rank: int, scale: float, generator: Generator) -> None:
        """Start the change of a weight.

        Args:
            weight: of a linear layer or convolution; the first two axes are channels.
            rank: of the axes of channels, at most their size; a kernel's axes keep theirs.
            scale: s.
            generator: draws the factors; on the CPU.
        """
        super().__init__()
        sizes = weight.shape
        ranks = [min(rank, size) if axis < 2 else size for axis, size in enumerate(sizes)]
        self._scale = scale
        self.core = nn.Parameter(torch.zeros(ranks, device=weight.device, dtype=weight.dtype))
        self.factors = nn.ParameterList(
            nn.init.kaiming_normal_(torch.empty(n, r), a=math.sqrt(3), generator=generator).to(
                weight
            )
            for n, r in zip(sizes, ranks, strict=True)
        )

    def forward(self, weight: Tensor) -> Tensor:
        """Return the changed weight."""
        with torch.autocast(weight.device.type, enabled=False):
            change = self.core
            for factor in self.factors:  # each turns the first axis into the last
                change = torch.tensordot(change, factor, dims=([0], [1]))
            return weight + self._scale * change


def insert_tucker(model: nn.Module, layers: Layers, how: Hyperparameters) -> ComputedTensors:
    """Add Tucker adapters to layers of a model, in place; outputs do not change yet.

    Args:
        model: on its device.
        layers: those that get an adapter, by name.
        how: rank, scale alpha / rank, and the seed of the factors.
    """
    scale = how.adapter_alpha / how.adapter_rank
    wanted = {
        f"{layer}.weight": partial(
            TuckerChange,
            rank=how.adapter_rank,
            scale=scale,
            generator=seeded_generator(how.seed, "Tucker", layer),
        )
        for layer in layers
    }
    names = compute(model, wanted)
    new = [name for name, _ in model.named_parameters() if name not in names]
    return ComputedTensors(
        model,
        names,
        TrainedParts(frozenset(names), frozenset(new), frozenset(), 0),
        {"peft_type": "TUCKER", "scale": scale, "target_modules": sorted(layers)},
        _short_names(new),
    )


def _short_names(names: list[str]) -> Mapping[str, str]:
    """Return the names of trained tensors by those to save: `<layer>.weight.core`."""
    short = ".parametrizations.weight.0."
    return {name.replace(short, ".weight.", 1): name for name in names}
