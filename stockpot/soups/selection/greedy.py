"""Greedy soup (Wortsman et al. 2022, https://arxiv.org/abs/2203.05482, Recipe 1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from stockpot.soups.selection.candidates import Candidates, Selection, Step

if TYPE_CHECKING:
    from torch import Tensor

Next: TypeAlias = Callable[[Sequence[int], Sequence[int]], int]
"""The soup so far, and the ingredients not tried yet, best first -> the one to try next."""


def greedy(candidates: Candidates) -> Selection:
    """Add ingredients one by one, best first; keep each that does not lower the val score."""
    steps = greedy_steps(candidates.order, candidates.score)
    return Selection([step.ingredient for step in steps if step.accepted], steps)


def _in_order(_soup: Sequence[int], rest: Sequence[int]) -> int:
    return rest[0]


def greedy_steps(
    order: Sequence[int],
    score: Callable[[Sequence[int]], Tensor],
    following: Next = _in_order,
) -> list[Step]:
    """Try the ingredients one by one, and add each that does not lower the soup's score.

    The first of the order is tried first; the soup's score is never below its score, that of the
    best single ingredient.

    Args:
        order: positions of the ingredients, best val score first; at least one.
        score: positions -> val values (N,) of the soup of these ingredients, one per example;
            their mean decides, higher is better.
        following: which ingredient is tried after the first; that of the order by default.

    Returns:
        One step per ingredient, in the order tried; the first one is always accepted.

    Source: Recipe 1, which adds an ingredient on equality (`>=`).
    """
    soup: list[int] = []
    steps: list[Step] = []
    best = -math.inf
    rest = [*order]
    while rest:
        ingredient = following(soup, rest) if soup else rest[0]
        rest.remove(ingredient)
        values = score([*soup, ingredient])
        candidate = values.mean().item()
        accepted = not soup or candidate >= best
        if accepted:
            soup.append(ingredient)
            best = candidate
        steps.append(Step(ingredient, candidate, accepted, best, values))
    return steps
