"""Ensemble selection with replacement (Caruana et al. 2004), of weights instead of predictions.

https://dl.acm.org/doi/10.1145/1015330.1015432
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from stockpot.seeding import derive_seed
from stockpot.soups.selection.candidates import Selection, Stopped, WeightedCandidates
from stockpot.soups.selection.shares import coefficients_of, mean_shares, select_shares
from stockpot.soups.selection.stopping import EvaluateWeighted, best_of, weighted_evaluation

if TYPE_CHECKING:
    from torch import Tensor


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

    Source: the paper's selection with replacement, sorted initialization (with one model) and
    bagged selection, of ensembles whose predictions are averaged.
    """
    order, evaluate = candidates.order, weighted_evaluation(candidates)
    if bags == 1:
        return select_shares(_best_shares(evaluate, order, additions))
    drawn = random.Random(derive_seed(candidates.seed, "bags"))
    half = math.ceil(len(order) / 2)
    places = [sorted(drawn.sample(range(len(order)), half)) for _ in range(bags)]
    halves = [[order[place] for place in bag] for bag in places]
    return select_shares(mean_shares([_best_shares(evaluate, h, additions) for h in halves]))


def _best_shares(
    evaluate: EvaluateWeighted, order: Sequence[int], additions: int
) -> dict[int, float]:
    """Return the shares of the best soup on the way; of equal ones, the first.

    Of equal additions, that of the best ingredient alone is made.
    """

    def evaluated(counts: Counter[int], reached: Tensor | None) -> Tensor | Stopped:
        shares = _shares_of(counts)
        return evaluate([*shares], coefficients_of(shares), reached)

    soup, best, best_score = Counter[int](), Counter(order[:1]), -math.inf
    for _ in range(additions):
        tried = [soup + Counter([ingredient]) for ingredient in (order if soup else order[:1])]
        found = best_of(tried, evaluated)
        if found is None:  # all scores are NaN
            break
        soup, values = found
        if (score := values.mean().item()) > best_score:
            best, best_score = soup, score
    return _shares_of(best)


def _shares_of(counts: Counter[int]) -> dict[int, float]:
    return {ingredient: count / counts.total() for ingredient, count in counts.items()}
