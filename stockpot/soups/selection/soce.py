"""Soup of category experts (Maiti et al. 2025, https://arxiv.org/abs/2511.13254)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Field

from stockpot.errors import InputError
from stockpot.soups.selection.candidates import Selection, WeightedCandidates
from stockpot.soups.selection.stopping import best_of, weighted_evaluation


def soce(
    candidates: WeightedCandidates,
    *,
    threshold: Annotated[
        float,
        Field(
            gt=-1,
            le=1,
            description="a group of val examples has an expert if its scores over ingredients "
            "correlate less than this with those of another group",
        ),
    ] = 0.7,
    max_experts: Annotated[int, Field(ge=1, description="at most so many ingredients")] = 3,
    steps: Annotated[
        int, Field(ge=1, le=100, description="coefficients are multiples of 1 / steps, or equal")
    ] = 10,
) -> Selection:
    """Merge the best ingredients on groups of val examples, with the coefficients best on val.

    Source: Algorithm 1, except that a negative correlation counts as weak, as in the paper's text,
    not by its magnitude; the sum over categories is the score on val; and several groups with one
    expert give it one coefficient.
    """
    if candidates.group_scores is None:
        raise InputError(
            "select: soce needs the scores of groups of examples, which are known in an experiment "
            "alone; take another selection"
        )
    if len(candidates.order) == 1:
        return Selection([*candidates.order])
    scores = candidates.group_scores()
    informative = {name: own for name, own in scores.items() if max(own) > min(own)}
    if len(scores) < 2:
        raise InputError(
            f"select: soce needs two groups of val examples or more, got {[*scores]}; add "
            "workload.val_shifts, or take another selection"
        )
    experts = _experts(informative, candidates.order, threshold)
    chosen = _most_often(experts, candidates.order)[:max_experts] or [candidates.order[0]]
    if len(chosen) == 1:
        return Selection(chosen, experts=experts)
    evaluate = weighted_evaluation(candidates)
    found = best_of(_grid(len(chosen), steps), lambda shares, best: evaluate(chosen, shares, best))
    return Selection(chosen, coefficients=found[0] if found else (), experts=experts)


def _experts(
    scores: Mapping[str, Sequence[float]], order: Sequence[int], threshold: float
) -> dict[str, int]:
    """Return the best ingredient on each group that correlates weakly with another."""
    from stockpot.statistics.weak_correlations import weakly_correlated

    weak = weakly_correlated(scores, threshold)
    return {name: max(order, key=lambda one: scores[name][one]) for name in weak}


def _most_often(experts: Mapping[str, int], order: Sequence[int]) -> list[int]:
    """Return the experts, those of most groups first; of equal numbers, the best on val."""
    chosen = [*experts.values()]
    return sorted({*chosen}, key=lambda one: (-chosen.count(one), order.index(one)))


def _grid(count: int, steps: int) -> Iterator[list[float]]:
    """Yield coefficients that sum to 1: equal ones, then positive multiples of 1 / steps.

    The most even ones come first, so that they are preferred among equal scores.
    """
    yield [1 / count] * count
    for parts in sorted(_compositions(count, steps), key=lambda parts: sum(p * p for p in parts)):
        if len({*parts}) > 1:
            yield [part / steps for part in parts]


def _compositions(count: int, total: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to write a number as a sum of `count` whole numbers from 1, in order."""
    if count == 1:
        yield (total,)
        return
    for first in range(total - count + 1, 0, -1):
        for rest in _compositions(count - 1, total - first):
            yield (first, *rest)
