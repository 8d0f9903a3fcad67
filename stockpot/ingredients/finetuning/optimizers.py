"""The optimizers by name, and their learning rates."""

from __future__ import annotations

from typing import Any, TypedDict

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from stockpot.ingredients.finetuning.adamp import AdamP
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.layer_decay import parameter_groups
from stockpot.ingredients.finetuning.sgdp import SGDP
from stockpot.ingredients.finetuning.templates import coefficients_in
from stockpot.ingredients.finetuning.weight_compander import undecayed


class _Projection(TypedDict):
    weight_decay: float
    delta: float
    wd_ratio: float
    nesterov: bool


def build_optimizer(model: nn.Module, how: Hyperparameters) -> Optimizer:
    """Build the optimizer of a model's trained parameters; learning rates are set at each step.

    `sgd` has momentum (Polyak 1964) and adds the weight decay to the gradient, as torch does.
    """
    decay = how.weight_decay
    bare = undecayed(model) | coefficients_in(model)
    groups = _split(parameter_groups(model, how.layer_decay), bare)
    looks_ahead = bool(how.nesterov and how.momentum)  # without momentum there is nothing ahead
    projection: _Projection = {
        "weight_decay": decay,
        "delta": how.delta,
        "wd_ratio": how.wd_ratio,
        "nesterov": bool(how.nesterov),
    }
    match how.optimizer:
        case "adamw":
            return AdamW(groups, weight_decay=decay, fused=True)
        case "sgd":
            return SGD(
                groups,
                momentum=how.momentum,
                weight_decay=decay,
                nesterov=looks_ahead,
                fused=True,
            )
        case "adamp":
            return AdamP(groups, **projection)
        case "sgdp":
            return SGDP(groups, momentum=how.momentum, **projection)


def _split(groups: list[dict[str, Any]], undecayed: set[nn.Parameter]) -> list[dict[str, Any]]:
    """Give parameters without weight decay groups of their own; without any, nothing changes."""
    if not undecayed:
        return groups
    parts = [
        group | {"params": [one for one in group["params"] if (one in undecayed) is bare]} | decay
        for group in groups
        for bare, decay in ((False, {}), (True, {"weight_decay": 0.0}))
    ]
    return [group for group in parts if group["params"]]


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of the last layer; those of the others are scaled by `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
