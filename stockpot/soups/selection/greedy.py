"""Greedy soup (Wortsman et al. 2022, https://arxiv.org/abs/2203.05482, Recipe 1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import Field

from stockpot.soups.selection.candidates import Candidates, Selection, Step, Stopped
from stockpot.soups.selection.stopping import Evaluate, evaluation

if TYPE_CHECKING:
    from torch import Tensor

Next: TypeAlias = Callable[[Sequence[int], Sequence[int]], int]
"""The soup so far, and the ingredients not tried yet, best first -> the one to try next."""


def greedy(
    candidates: Candidates,
    *,
    risk: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="probability that the choice differs from that on all of val: candidates "
            "are rejected by a sequential test on examples in random order; 0: it never differs",
        ),
    ] = 0.0,
) -> Selection:
    """Add ingredients one by one, best first; keep each that does not lower the val score."""
    steps = greedy_steps_until_known(candidates.order, evaluation(candidates, risk=risk))
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
    return greedy_steps_until_known(order, lambda members, _: score(members), following)


def greedy_steps_until_known(
    order: Sequence[int], evaluate: Evaluate, following: Next = _in_order
) -> list[Step]:
    """As `greedy_steps`, but the evaluation of a soup may stop once it is known to lose.

    Args:
        order: positions of the ingredients, best val score first; at least one.
        evaluate: evaluates a soup, given the values of the soup so far.
        following: chooses the ingredient to try next.
    """
    soup: list[int] = []
    steps: list[Step] = []
    best, best_values = -math.inf, None
    rest = [*order]
    while rest:
        ingredient = following(soup, rest) if soup else rest[0]
        rest.remove(ingredient)
        found = evaluate([*soup, ingredient], best_values)
        if isinstance(found, Stopped):
            steps.append(Step(ingredient, None, False, best, None, found))
            continue
        score = found.mean().item()
        accepted = not soup or score >= best
        if accepted:
            soup.append(ingredient)
            best, best_values = score, found
        steps.append(Step(ingredient, score, accepted, best, found))
    return steps
