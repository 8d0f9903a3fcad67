"""The tensors trained in place of a model's own weights, by the hyperparameters of a run."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.data import Dataset

from stockpot.ingredients.finetuning.adapted_layers import layers_to_adapt
from stockpot.ingredients.finetuning.adapters import insert_adapter
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.reparametrisation import Reparametrisation
from stockpot.ingredients.finetuning.subspace import train_in_subspace
from stockpot.ingredients.finetuning.templates import share_templates
from stockpot.ingredients.finetuning.trained_parts import TrainedParts
from stockpot.ingredients.finetuning.tucker import insert_tucker
from stockpot.ingredients.finetuning.weight_compander import compand
from stockpot.workloads.protocol import Workload


def insert_substitute(
    workload: Workload, model: nn.Module, data: Dataset[Any], how: Hyperparameters, device: str
) -> Reparametrisation | None:
    """Insert an adapter, a subspace, companders or templates into a model, in place.

    Outputs change only where templates cannot give the weights.

    Args:
        workload: runs the model, for adapters that start from its inputs.
        model: on the device.
        data: the examples that it will be trained on.
        how: what to insert, and the seed.
        device: where the model is.

    Returns:
        None if the weights themselves are trained.

    Raises:
        InputError: it does not fit the model.
    """
    if how.adapter == "tucker":
        return insert_tucker(model, layers_to_adapt(model, how), how)
    if how.adapter != "none":
        return insert_adapter(workload, model, data, how, device)
    if how.subspace:
        return train_in_subspace(model, how, TrainedParts.of(model, how))
    if how.compander:
        return compand(model, how.compander, TrainedParts.of(model, how))
    if how.templates:
        return share_templates(model, how, TrainedParts.of(model, how))
    return None
