"""Greedy soup (Wortsman et al. 2022, https://arxiv.org/abs/2203.05482, Recipe 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """One decision: was the ingredient kept?

    Attributes:
        ingredient: its position.
        score: val score of the soup with it.
        accepted: whether it went in.
        best: val score of the soup after the decision.
        values: the val values of the soup with it, one an example, whose mean is `score`; (N,).
    """

    ingredient: int
    score: float
    accepted: bool
    best: float
    values: Tensor = field(compare=False, repr=False)


def select_greedy(order: Sequence[int], score: Callable[[Sequence[int]], Tensor]) -> list[Step]:
    """Try the ingredients in order and keep each one that does not lower the soup's score.

    The soup's score is never below that of the first ingredient, which is the best single one.

    Args:
        order: positions of the ingredients, best val score first; at least one.
        score: val values of the mean of some ingredients, one an example (N,); their mean is what
            decides, higher is better.

    Returns:
        A step an ingredient, in the order tried; the first one is always accepted.

    Source: Recipe 1, which keeps an ingredient on equality (`>=`).
    """
    soup = [order[0]]
    values = score(soup)
    best = values.mean().item()
    steps = [Step(order[0], best, accepted=True, best=best, values=values)]
    for ingredient in order[1:]:
        values = score([*soup, ingredient])
        candidate = values.mean().item()
        accepted = candidate >= best
        if accepted:
            soup.append(ingredient)
            best = candidate
        steps.append(Step(ingredient, candidate, accepted, best, values))
    return steps
