"""Greedy soup (Wortsman et al. 2022, https://arxiv.org/abs/2203.05482, Recipe 1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from stockpot.soups.selection.candidates import Candidates, Selection, Step

if TYPE_CHECKING:
    from torch import Tensor


def greedy(candidates: Candidates) -> Selection:
    """Add ingredients one by one, best first; keep each that does not lower the val score."""
    steps = greedy_steps(candidates.order, candidates.score)
    return Selection([step.ingredient for step in steps if step.accepted], steps)


def greedy_steps(order: Sequence[int], score: Callable[[Sequence[int]], Tensor]) -> list[Step]:
    """Try the ingredients in order and add each one that does not lower the soup's score.

    The soup's score is never below that of the first ingredient, which is the best single one.

    Args:
        order: positions of the ingredients, best val score first; at least one.
        score: positions -> val values (N,) of the soup of these ingredients, one per example;
            their mean decides, higher is better.

    Returns:
        One step per ingredient, in the order tried; the first one is always accepted.

    Source: Recipe 1, which adds an ingredient on equality (`>=`).
    """
    soup: list[int] = []
    steps: list[Step] = []
    best = -math.inf
    for ingredient in order:
        values = score([*soup, ingredient])
        candidate = values.mean().item()
        accepted = not soup or candidate >= best
        if accepted:
            soup.append(ingredient)
            best = candidate
        steps.append(Step(ingredient, candidate, accepted, best, values))
    return steps
