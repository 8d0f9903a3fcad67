"""The gain of the greedy soup from each ingredient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from stockpot.soups.selection.greedy import greedy_steps

if TYPE_CHECKING:
    from torch import Tensor


def soup_gains(order: Sequence[int], score: Callable[[Sequence[int]], Tensor]) -> list[float]:
    """Return by how much each ingredient raises the score of the greedy soup.

    For an ingredient in the soup: the soup's score minus that of the soup without it. For any
    other: the score of the soup with it minus the soup's. For the only ingredient of a soup: its
    score minus that of the second best.

    Args:
        order: positions of the ingredients, best val score first; at least two.
        score: positions -> val values (N,) of the mean of these ingredients, one per example;
            higher is better.

    Returns:
        Gains by position, in the score's unit.
    """
    steps = greedy_steps(order, score)
    soup = [step.ingredient for step in steps if step.accepted]
    best = steps[-1].best

    def gain(ingredient: int) -> float:
        if ingredient not in soup:
            return score([*soup, ingredient]).mean().item() - best
        others = [member for member in soup if member != ingredient] or [order[1]]
        return best - score(others).mean().item()

    return [gain(ingredient) for ingredient in sorted(order)]
