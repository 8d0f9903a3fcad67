"""The optimizers by name, and their learning rates."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from stockpot.ingredients.finetuning.adamp import AdamP
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.layer_decay import parameter_groups


def build_optimizer(model: nn.Module, how: Hyperparameters) -> Optimizer:
    """Build the optimizer of a model's trained parameters; learning rates are set at each step.

    `sgd` has momentum (Polyak 1964) and adds the weight decay to the gradient, as torch does.
    """
    groups, decay = parameter_groups(model, how.layer_decay), how.weight_decay
    match how.optimizer:
        case "adamw":
            return AdamW(groups, weight_decay=decay, fused=True)
        case "sgd":
            return SGD(groups, momentum=how.momentum, weight_decay=decay, fused=True)
        case "adamp":
            return AdamP(groups, weight_decay=decay)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of the last layer; those of the others are scaled by `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
