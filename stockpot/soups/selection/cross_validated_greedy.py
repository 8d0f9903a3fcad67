"""Greedy soup whose number of ingredients is chosen by cross-validation.

Breiman & Spector 1992, https://doi.org/10.2307/1403680, who choose the size of a stepwise
regression so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from stockpot.errors import InputError
from stockpot.seeding import derive_seed
from stockpot.soups.selection.cached_score import cached_score
from stockpot.soups.selection.candidates import Candidates, Selection
from stockpot.soups.selection.greedy import greedy_steps

if TYPE_CHECKING:
    from torch import Tensor


def cross_validated_greedy(
    candidates: Candidates,
    *,
    folds: Annotated[int, Field(ge=2, description="parts of val, each held out once")] = 5,
) -> Selection:
    """Stop greedy selection at the number of ingredients that is best on held-out folds of val.

    For each fold, ingredients are ranked and selected greedily on the rest of val; the soups of the
    first 1, 2, ... K accepted ingredients are scored on the fold (of fewer, if fewer are accepted).
    The number with the best mean over all held-out examples, the largest of equal ones, is the
    limit for the greedy soup on all of val. Evaluates at most 2 K + folds * (K - 1) soups of K
    ingredients, far fewer if the folds choose alike.

    Raises:
        InputError: there are fewer val examples than folds.
    """
    score = cached_score(candidates.score)
    steps = greedy_steps(candidates.order, score)
    num_examples = len(score(candidates.order[:1]))
    if num_examples < folds:
        raise InputError(
            f"select: cross_validated_greedy: folds must be at most {num_examples}, the number of "
            f"val examples, got {folds}"
        )
    shuffled = [*range(num_examples)]
    random.Random(derive_seed(candidates.seed, "folds")).shuffle(shuffled)
    held_out = [
        _held_out_sums(candidates.order, score, shuffled[fold::folds], shuffled)
        for fold in range(folds)
    ]
    sums = [sum(each) for each in zip(*held_out, strict=True)]
    size = max(range(len(sums)), key=lambda place: (sums[place], place)) + 1
    sizes = accumulate(step.accepted for step in steps)
    kept = [
        step for step, so_far in zip(steps, sizes, strict=True) if so_far - step.accepted < size
    ]
    return Selection([step.ingredient for step in kept if step.accepted], kept)


def _held_out_sums(
    order: Sequence[int],
    score: Callable[[Sequence[int]], Tensor],
    held_out: Sequence[int],
    examples: Sequence[int],
) -> list[float]:
    """Return the sum of values over a fold, for 1 to K ingredients accepted on the others."""
    rest = sorted({*examples} - {*held_out})
    ranked = sorted(order, key=lambda one: -score([one])[rest].mean().item())
    steps = greedy_steps(ranked, lambda members: score(members)[rest])
    chosen = [step.ingredient for step in steps if step.accepted]
    sums = [score(chosen[: size + 1])[held_out].sum().item() for size in range(len(chosen))]
    return sums + [sums[-1]] * (len(order) - len(sums))
