"""Selections, a merge method and a search as users write them, outside the library."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from stockpot.merging.method import method
from stockpot.soups.selection.candidates import (
    Candidates,
    PathPoint,
    Paths,
    PathSelection,
    Selection,
)
from stockpot.soups.tuning.custom_search import Mixing
from stockpot.soups.tuning.search import Found, SearchContext, trial_json

_TURNS = itertools.count()


def best_and(candidates: Candidates, *, place: Annotated[int, Field(ge=1)] = 1) -> Selection:
    """Merge the best ingredient with one further down, the worse one first."""
    return Selection([candidates.order[place], candidates.order[0]])


def by_turns(candidates: Candidates) -> Selection:
    """Choose another pair of ingredients each time, as a selection without a seed may."""
    turn = next(_TURNS) % len(candidates.order)
    return Selection([candidates.order[turn], candidates.order[turn - 1]])


def best_pair(candidates: Candidates) -> Selection:
    """Merge the pair with the best score, the worse one first."""
    order = candidates.order
    pairs = [(b, a) for number, a in enumerate(order) for b in order[number + 1 :]]
    return Selection(max(pairs, key=lambda pair: candidates.score(pair).mean().item()))


def halfway(paths: Paths, *, alpha: float) -> PathSelection:
    """Take the point at `alpha` on the path to the best ingredient."""
    best = paths.order[0]
    return PathSelection(PathPoint(best, alpha, paths.score(best, alpha)))


def nothing(candidates: Candidates) -> Selection:  # noqa: ARG001
    """Choose no ingredient."""
    return Selection([])


def positions(candidates: Candidates) -> Sequence[int]:
    """Return positions, which is not a selection."""
    return candidates.order


def no_selection(models: Sequence[int], k: int) -> None:
    """Have a signature that no selection has."""


def each_alone(mixing: Mixing, *, share: Annotated[float, Field(gt=0, le=1)] = 1.0) -> list[float]:
    """Score each model mixed with the best one; return the best coefficients."""
    count = len(mixing.names)
    candidates = [
        [share * (p == model) + (1 - share) * (p == 0) for p in range(count)]
        for model in range(count)
    ]
    return max(candidates, key=mixing.score)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """Train the two best ingredients together, from the base on."""

    trains = True

    steps: int = 3

    @property
    def recipe(self) -> dict[str, Any]:
        """The search in the form of manifests."""
        place = "custom_merging:Descent"
        return {"search": place, "method": "linear", "objectives": ["val"], "steps": self.steps}

    study = recipe

    def find(self, context: SearchContext) -> Found:
        """Take steps of the mean against its gradient on half of train."""
        count = len(context.names)
        row = [1.0 if place in context.order[:2] else 0.0 for place in range(count)]
        from_base = context.mixture("model", is_from_base=True).weights({"model": [0.0] * count})
        weights = context.mixture("model").weights({"model": row})
        halves = context.halves_of_train(16).pairs(1)
        for objective, _ in itertools.islice(halves, self.steps):
            _, gradient, _ = objective(weights, 1.0)
            weights |= {name: weights[name] - 0.1 * slope for name, slope in gradient.items()}
        weights = {name: 0.9 * tensor + 0.1 * from_base[name] for name, tensor in weights.items()}
        trials = [trial_json(0, [context.score_weights(weights)], "sampler")]
        return Found("linear", "model", {"model": row}, trials, weights=weights)


class Untold(Descent):
    """Train, but do not say so."""

    trains = False


class Forgetful(Descent):
    """Leave the options out of the recipe."""

    @property
    def recipe(self) -> dict[str, Any]:
        """The search without its steps."""
        return {"search": "custom_merging:Forgetful", "method": "linear", "objectives": ["val"]}


def too_few(mixing: Mixing) -> list[float]:  # noqa: ARG001
    """Return one coefficient."""
    return [1.0]


@method("entrywise_median")
def entrywise_median(tensors: Sequence[Tensor], *, shift: float = 0.0) -> Tensor:
    """Take the median of each entry."""
    if shift < 0:
        raise ValueError(f"entrywise_median: shift must not be negative, got {shift}")
    return torch.stack(list(tensors)).median(dim=0).values + shift


def undecorated(tensors: Sequence[Tensor]) -> Tensor:
    """Merge like a method, but without the decorator."""
    return tensors[0]
