"""What the greedy soup gains from each ingredient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from stockpot.soups.selection.greedy import select_greedy

if TYPE_CHECKING:
    from torch import Tensor


def soup_gains(order: Sequence[int], score: Callable[[Sequence[int]], Tensor]) -> list[float]:
    """Return by how much each ingredient raises the score of the greedy soup.

    Of an ingredient in the soup: the soup's score less that of the others in it. Of any other: the
    score of the soup with it, less the soup's. A soup of one ingredient gains from it what it has
    over the second best.

    Args:
        order: positions of the ingredients, best val score first; at least two.
        score: val values of the mean of some ingredients, one an example (N,); higher is better.

    Returns:
        Gains by position, in the score's unit.
    """
    steps = select_greedy(order, score)
    soup = [step.ingredient for step in steps if step.accepted]
    best = steps[-1].best

    def gain(ingredient: int) -> float:
        if ingredient not in soup:
            return score([*soup, ingredient]).mean().item() - best
        others = [member for member in soup if member != ingredient] or [order[1]]
        return best - score(others).mean().item()

    return [gain(ingredient) for ingredient in sorted(order)]
