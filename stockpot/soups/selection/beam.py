"""Greedy selection that follows several soups at once (beam search)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from stockpot.soups.selection.candidates import Candidates, Selection, Stopped
from stockpot.soups.selection.stopping import evaluation

if TYPE_CHECKING:
    from torch import Tensor


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
    evaluate = evaluation(candidates)
    followed = [_Followed((), -math.inf, None)]
    for ingredient in candidates.order:
        soups = [*followed]  # without the ingredient
        for soup in followed:
            last = _best_first(soups)[width - 1 : width]  # who scores lower is not followed
            extended = (*soup.members, ingredient)
            values = evaluate(extended, last[0].values if last else None)
            if not isinstance(values, Stopped) and not values.isnan().any():
                with_it = _Followed(extended, values.mean().item(), values)
                soups.insert(soups.index(soup), with_it)
        followed = _best_first(soups)[:width]
    return Selection([*(followed[0].members or candidates.order[:1])])  # all may be NaN


@dataclass(frozen=True, slots=True, eq=False)
class _Followed:
    """A soup with its val score and values (N,); the empty one has no values."""

    members: tuple[int, ...]
    score: float
    values: Tensor | None


def _best_first(soups: Sequence[_Followed]) -> list[_Followed]:
    """Sort soups by score; equal ones stay in their order."""
    return sorted(soups, key=lambda soup: -soup.score)
