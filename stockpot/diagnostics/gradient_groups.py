"""Groups of ingredients by the gradients of their training objectives at the uniform soup."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.finding import Finding
from stockpot.diagnostics.minimum_cuts import minimum_cut, split_into_groups
from stockpot.diagnostics.states import mean_state
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.objective import training_losses
from stockpot.merging.methods.inner_products import cosines_of, gram
from stockpot.merging.states import State
from stockpot.metric_units import unit_in
from stockpot.statistics.values import Floats
from stockpot.workloads.protocol import Batch

Objective: TypeAlias = Callable[[nn.Module], Tensor]
"""Model -> its loss on a batch, with a graph to the model's weights."""

THRESHOLD = 0.0  # mean cosine: groups with less between their parts are split
_BATCHES, _BATCH_SIZE = 8, 64


def gradient_groups(context: DiagnosticContext) -> Finding:
    """Compare the gradients of all ingredients' training objectives at their uniform soup.

    All use the same examples of train, so that gradients differ by the objectives alone; the net
    is in eval mode. If the gradients of two groups oppose each other, shared weights are a
    compromise, and a soup of each group is scored on val.

    Source: Hu et al. 2022, https://arxiv.org/abs/2203.15207: gradients at shared weights, there
    of a supernet's children.
    """
    ingredients = context.ingredients
    if len(ingredients) == 1:
        return Finding("There is only one ingredient, so there are no gradients to compare.")
    details = [one.model.details for one in ingredients]
    if any("hyperparameters" not in known or "imported" in known for known in details):
        return Finding(
            "Training objectives of some ingredients are unknown, so no gradients are compared."
        )
    everyone = mean_state([one.weights for one in ingredients])
    examples = context.probe("train", _BATCHES * _BATCH_SIZE)
    batches = [*zip(*(torch.split(tensor, _BATCH_SIZE) for tensor in examples), strict=True)]
    objectives = [_objectives(context, known["hyperparameters"], batches) for known in details]
    cosines = gradient_cosines(context.net(everyone), objectives)
    groups = split_into_groups(cosines, threshold=THRESHOLD)
    value, part = minimum_cut(cosines)
    names = [one.name for one in ingredients]
    data = {
        **context.described,
        "ingredients": names,
        "cosines": [[round(value, 4) for value in row] for row in cosines.tolist()],
        "threshold": THRESHOLD,
        "cut": {"mean": round(value, 4), "part": [names[place] for place in part]},
        "all": _val_scores(context, everyone),
        "groups": [_group(context, group) for group in groups],
    }
    pairs = cosines[np.triu_indices(len(names), 1)]
    metrics = {
        "num_groups": float(len(groups)),
        "mean_cosine": float(pairs.mean()),
        "lowest_cosine": float(pairs.min()),
        "mean_cosine_across_cut": value,
    }
    return Finding(describe(data), metrics, data)


def gradient_cosines(net: nn.Module, objectives: Sequence[Iterable[Objective]]) -> Floats:
    """Return the cosines between the gradients of K objectives at a net's weights; (K, K).

    Gradients are summed over batches on the CPU; those of unused weights are 0.

    Args:
        net: its weights do not change.
        objectives: per objective, the losses on its batches.
    """
    trained = [parameter.requires_grad_() for parameter in net.parameters()]
    vectors = [_gradient(net, trained, losses) for losses in objectives]  # (P,) each
    cosines: Floats = cosines_of(gram(vectors)).numpy()
    return cosines


def _gradient(net: nn.Module, trained: Sequence[Tensor], losses: Iterable[Objective]) -> Tensor:
    total = [torch.zeros_like(tensor) for tensor in trained]
    for loss in losses:
        slopes = torch.autograd.grad(loss(net), trained, materialize_grads=True)
        for summed, slope in zip(total, slopes, strict=True):
            summed.add_(slope)
    return torch.cat([tensor.reshape(-1).float().cpu() for tensor in total])


def _objectives(
    context: DiagnosticContext, hyperparameters: Mapping[str, Any], batches: Sequence[Batch]
) -> list[Objective]:
    trained_with = Hyperparameters(**hyperparameters)

    def loss(batch: Batch, step: int, net: nn.Module) -> Tensor:
        return training_losses(context.workload, net, batch, trained_with, step).mean()

    return [partial(loss, batch, step) for step, batch in enumerate(batches)]


def _group(context: DiagnosticContext, members: Sequence[int]) -> dict[str, Any]:
    """Return the members of a group, and the val scores of its soup."""
    chosen = [context.ingredients[member] for member in members]
    scores = _val_scores(context, mean_state([one.weights for one in chosen]))
    return {"ingredients": [one.name for one in chosen]} | scores


def _val_scores(context: DiagnosticContext, weights: State) -> dict[str, Any]:
    metric, loss = context.val_scores(weights)
    return {"metric": round(metric, 6), "loss": round(loss, 6)}


def describe(data: Mapping[str, Any]) -> str:
    """Explain the groups, and whether a soup of one group is better."""
    groups, mean = data["groups"], data["cut"]["mean"]
    num = len(data["ingredients"])
    if len(groups) == 1:
        return (
            f"At the uniform soup the training objectives of {num} ingredients do not oppose each "
            f"other: between the two least similar groups, gradients have a mean cosine of "
            f"{mean:.2f}. They belong in one soup."
        )
    best = max(groups, key=lambda group: float(group["metric"]))
    sizes = ", ".join(str(len(group["ingredients"])) for group in groups)
    gain, unit = best["metric"] - data["all"]["metric"], unit_in(data)
    advice = (
        "make a soup of each group"
        if gain > 0
        else "the soup of all scores at least as high, so there is no need to split"
    )
    return (
        f"At the uniform soup the training objectives oppose each other: {len(groups)} groups (of "
        f"{sizes}), with a mean cosine of {mean:.2f} between the first two. The best group's soup "
        f"scores {unit.score_in_full(best['metric'])} on val, {unit.signed(gain)} {unit.points} "
        f"relative to the soup of all: {advice}."
    )
