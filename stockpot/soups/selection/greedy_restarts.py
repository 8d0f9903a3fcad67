"""Greedy soups over several orders of the ingredients, averaged."""

from __future__ import annotations

import random
from typing import Annotated

from pydantic import Field

from stockpot.seeding import derive_seed
from stockpot.soups.selection.candidates import Selection, WeightedCandidates
from stockpot.soups.selection.greedy import greedy_steps_until_known
from stockpot.soups.selection.shares import equal_shares, mean_shares, select_shares
from stockpot.soups.selection.stopping import evaluation


def greedy_restarts(
    candidates: WeightedCandidates,
    *,
    orders: Annotated[
        int,
        Field(ge=1, description="so many orders: the first by val score, the others random"),
    ] = 5,
) -> Selection:
    """Average the greedy soups over random orders of the ingredients; one order is `greedy`.

    The first ingredient of an order is always accepted. The mean of the soups is one soup, in which
    the share of an ingredient is its mean share; it is not scored. Evaluates K * orders
    soups of K ingredients.
    """
    evaluate = evaluation(candidates)
    order = [*candidates.order]
    drawn = random.Random(derive_seed(candidates.seed, "orders"))
    tried = [order, *(drawn.sample(order, len(order)) for _ in range(orders - 1))]
    found = [greedy_steps_until_known(each, evaluate) for each in tried]
    soups = [[step.ingredient for step in steps if step.accepted] for steps in found]
    return select_shares(mean_shares([equal_shares(soup) for soup in soups]))
