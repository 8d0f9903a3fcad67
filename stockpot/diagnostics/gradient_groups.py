"""Groups of ingredients by the gradients of their training objectives at the uniform soup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from torch import Tensor

from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.finding import Finding
from stockpot.ingredients.finetuning.data_pruning import difficulty_scores
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.score_cache import train_scores
from stockpot.ingredients.own_gradients import OwnGradients, training_of
from stockpot.merging.states import State
from stockpot.metric_units import unit_in
from stockpot.statistics.minimum_cuts import minimum_cut, split_into_groups
from stockpot.storage.checkpoints import Checkpoint, load_tensors, verify


def gradient_groups(
    context: DiagnosticContext,
    *,
    threshold: Annotated[
        float,
        Field(ge=-1, le=1, description="groups with a lower mean cosine between parts are split"),
    ] = 0.0,
    max_groups: Annotated[int, Field(ge=2, description="at most so many groups")] = 4,
) -> Finding:
    """Compare the gradients of all ingredients' own training at their uniform soup.

    Each is of the ingredient's own examples, sampler, objective and adapter; the net is in eval
    mode. If the gradients of two groups oppose each other, shared weights are a compromise, and a
    soup of each group is scored on val. An imported ingredient takes part if its hyperparameter
    `data` names its examples.

    Source: Hu et al. 2022, https://arxiv.org/abs/2203.15207: gradients at shared weights, there
    of a supernet's children.
    """
    if len(context.ingredients) == 1:
        return Finding("There is only one ingredient, so there are no gradients to compare.")
    found = [training_of(one.model.details) for one in context.ingredients]
    known = [place for place, training in enumerate(found) if training is not None]
    unknown = [one.name for one, each in zip(context.ingredients, found, strict=True) if not each]
    if len(known) < 2:
        return Finding(
            "The training data or the objectives of some ingredients are unknown, so no gradients "
            f"are compared: {', '.join(unknown)}."
        )
    everyone = context.mean_of([one.weights for one in context.ingredients])
    gradients = OwnGradients(
        context.workload,
        context.base.weights,
        lambda checkpoint: load_tensors(verify(context.base.root, checkpoint)),
        lambda how, start: _scores(context, how, start),
        context.seed,
        context.device,
    )
    cosines = gradients.cosines(everyone, [each for each in found if each is not None])
    groups = split_into_groups(cosines, threshold=threshold, max_groups=max_groups)
    value, part = minimum_cut(cosines)
    names = [context.ingredients[place].name for place in known]
    data = {
        **context.described,
        "ingredients": names,
        "unknown": unknown,
        "cosines": [[round(value, 4) for value in row] for row in cosines.tolist()],
        "threshold": threshold,
        "cut": {"mean": round(value, 4), "part": [names[place] for place in part]},
        "all": _val_scores(context, everyone),
        "groups": [_group(context, [known[place] for place in group]) for group in groups],
    }
    pairs = cosines[np.triu_indices(len(names), 1)]
    metrics = {
        "num_groups": float(len(groups)),
        "mean_cosine": float(pairs.mean()),
        "lowest_cosine": float(pairs.min()),
        "mean_cosine_across_cut": value,
    }
    return Finding(describe(data), metrics, data)


def _scores(context: DiagnosticContext, how: Hyperparameters, start: Checkpoint | None) -> Tensor:
    """Return the difficulty of each example of train for a run's start, cached if it can be."""
    root, device = context.base.root, context.device
    start = start or context.base.model.checkpoint
    if context.spec is None:
        weights = load_tensors(verify(root, start))
        return difficulty_scores(context.workload, weights, how, split="train", device=device)
    return train_scores(root, context.spec, start, how, device)


def _group(context: DiagnosticContext, members: Sequence[int]) -> dict[str, Any]:
    """Return the members of a group, and the val scores of its soup."""
    chosen = [context.ingredients[member] for member in members]
    scores = _val_scores(context, context.mean_of([one.weights for one in chosen]))
    return {"ingredients": [one.name for one in chosen]} | scores


def _val_scores(context: DiagnosticContext, weights: State) -> dict[str, Any]:
    metric, loss = context.val_scores(weights)
    return {"metric": round(metric, 6), "loss": round(loss, 6)}


def describe(data: Mapping[str, Any]) -> str:
    """Explain the groups, and whether a soup of one group is better."""
    left_out = data.get("unknown", [])
    return _groups_in_words(data) + (
        f" Unknown, so not compared, are the training data or objectives of {', '.join(left_out)}."
        if left_out
        else ""
    )


def _groups_in_words(data: Mapping[str, Any]) -> str:
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
