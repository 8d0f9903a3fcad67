"""Weight Compander: w = a arctan(v / b), of which v, a and b are trained.

Cakaj et al. 2023, https://arxiv.org/abs/2306.16993. Weights are bounded by a pi / 2; a
slope a / b above 1 at 0 moves small weights away from 0, and large ones change less and less.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.reparametrisation import ComputedTensors, compute, computed
from stockpot.ingredients.finetuning.trained_parts import TrainedParts

_MARGIN = 1.5  # the bound of a layer's weights, as a multiple of the largest one at the start


class Compander(nn.Module):
    """Computes a weight from v; one a and one b per layer, whose logarithms are trained.

    Attributes:
        log_bound: the logarithm of a.
        log_width: the logarithm of b.
    """

    def __init__(self, weight: Tensor, *, slope: float) -> None:
        """Start so that the layer is unchanged.

        Args:
            weight: of the layer, not all 0.
            slope: a / b at the start.
        """
        super().__init__()
        bound = _MARGIN * 2 / math.pi * weight.detach().abs().max()
        self.log_bound = nn.Parameter(bound.log())
        self.log_width = nn.Parameter((bound / slope).log())

    def forward(self, hidden: Tensor) -> Tensor:
        """Return w for v."""
        return self.log_bound.exp() * torch.atan(hidden / self.log_width.exp())

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return v for w."""
        return self.log_width.exp() * torch.tan(weight / self.log_bound.exp())


def compand(model: nn.Module, slope: float, parts: TrainedParts) -> ComputedTensors:
    """Compute the weights of all trained linear and convolution layers from v, in place.

    Biases, norms, weights that are tied, and weights that are all 0 stay as they are.

    Raises:
        InputError: the model has no such layer.
    """
    uses = Counter(id(one) for _, one in model.named_parameters(remove_duplicate=False))
    weights = {
        f"{name}.weight".lstrip("."): layer.weight
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | _ConvNd) and uses[id(layer.weight)] == 1
    }
    wanted = [n for n, one in weights.items() if n in parts.trained and bool(one.any())]
    if not wanted:
        raise InputError(
            "compander: needs a linear or convolution layer with trained weights other than 0, "
            f"got {type(model).__name__} with none; set it to 0"
        )
    names = compute(model, {name: partial(Compander, slope=slope) for name in wanted})
    return computed(model, names, parts)


def undecayed(model: nn.Module) -> set[nn.Parameter]:
    """Return the parameters that have no weight decay: a and b of companders."""
    companders = [module for module in model.modules() if isinstance(module, Compander)]
    return {one for module in companders for one in module.parameters()}
