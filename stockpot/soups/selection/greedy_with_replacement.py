"""Ensemble selection with replacement (Caruana et al. 2004), of weights instead of predictions.

https://dl.acm.org/doi/10.1145/1015330.1015432
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from stockpot.seeding import derive_seed
from stockpot.soups.selection.candidates import Selection, WeightedCandidates
from stockpot.soups.selection.shares import mean_shares, score_shares, select_shares


def greedy_with_replacement(
    candidates: WeightedCandidates,
    *,
    additions: Annotated[
        int,
        Field(ge=1, description="so many ingredients are added; the best soup on the way is taken"),
    ] = 10,
    bags: Annotated[
        int,
        Field(
            ge=1,
            description="1: choose among all ingredients; more: among so many random halves of "
            "them, and average the soups",
        ),
    ] = 1,
) -> Selection:
    """Add the ingredient that is best for the soup, several times; weight them by their counts.

    Unlike `greedy`, each addition compares all ingredients, and the score may fall on the way. With
    bags, the mean of their soups is not scored. Evaluates at most 1 + K * (additions - 1) soups of
    K ingredients, and half as many per bag.

    Source: sections 2.1 (with replacement), 2.2 (starts with the best model) and 2.3 (bags of half
    the models; 20 in the paper).
    """
    order = candidates.order
    if bags == 1:
        return select_shares(_best_shares(candidates, order, additions))
    drawn = random.Random(derive_seed(candidates.seed, "bags"))
    half = math.ceil(len(order) / 2)
    places = [sorted(drawn.sample(range(len(order)), half)) for _ in range(bags)]
    halves = [[order[place] for place in bag] for bag in places]
    return select_shares(mean_shares([_best_shares(candidates, h, additions) for h in halves]))


def _best_shares(
    candidates: WeightedCandidates, order: Sequence[int], additions: int
) -> dict[int, float]:
    """Return the shares of the best soup on the way; of equal ones, the first.

    Of equal additions, that of the best ingredient alone is made.
    """
    counts = Counter([order[0]])
    best = _shares_of(counts)
    best_score = score_shares(candidates, best).mean().item()
    for _ in range(additions - 1):
        tried = [counts + Counter([ingredient]) for ingredient in order]
        scored = [(score_shares(candidates, _shares_of(t)).mean().item(), t) for t in tried]
        score, counts = max(scored, key=lambda pair: pair[0])
        if score > best_score:
            best, best_score = _shares_of(counts), score
    return best


def _shares_of(counts: Counter[int]) -> dict[int, float]:
    return {ingredient: count / counts.total() for ingredient, count in counts.items()}
