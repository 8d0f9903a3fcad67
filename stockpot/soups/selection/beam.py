"""Greedy selection that follows several soups at once (beam search)."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from stockpot.soups.selection.candidates import Candidates, Selection


def beam(
    candidates: Candidates,
    *,
    width: Annotated[int, Field(ge=1, description="so many soups are followed; 1 is greedy")] = 4,
) -> Selection:
    """Go through the ingredients, best first; follow the best soups with and without each.

    Of equal soups, those with the ingredient come first, so that width 1 is `greedy` and width
    2 ** K finds the best of all soups of K ingredients. A soup is only tried with the ingredients
    that come later in the order. Evaluates at most K * width soups.
    """
    followed: list[tuple[tuple[int, ...], float]] = [((), -math.inf)]
    for ingredient in candidates.order:
        soups = []
        for members, score in followed:
            extended = (*members, ingredient)
            soups += [
                (extended, candidates.score(extended).mean().item()),
                (members, score),
            ]
        soups.sort(key=lambda soup: -soup[1])
        followed = soups[:width]
    return Selection([*followed[0][0]])
