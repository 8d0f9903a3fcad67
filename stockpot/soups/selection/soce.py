"""Soup of category experts (Maiti et al. 2025, https://arxiv.org/abs/2511.13254)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Field

from stockpot.errors import InputError
from stockpot.soups.selection.candidates import Candidates, Selection


def soce(
    candidates: Candidates,
    *,
    threshold: Annotated[
        float,
        Field(
            gt=-1,
            le=1,
            description="groups of val examples whose scores over ingredients correlate at least "
            "so much have one expert",
        ),
    ] = 0.7,
    max_experts: Annotated[int, Field(ge=1, description="at most so many ingredients")] = 3,
    steps: Annotated[
        int, Field(ge=1, le=100, description="coefficients are multiples of 1 / steps")
    ] = 10,
) -> Selection:
    """Merge the best ingredients on groups of val examples, with the coefficients best on val."""
    if candidates.score_weighted is None:
        raise InputError(
            "select: soce needs a merge method with coefficients, which it searches; take linear "
            "or task_arithmetic"
        )
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
    best, best_score = Selection(chosen), float("-inf")
    for shares in _grid(len(chosen), steps):
        used = [place for place, share in enumerate(shares) if share > 0]
        members, weights = [chosen[p] for p in used], [shares[p] for p in used]
        score = candidates.score_weighted(members, weights).mean().item()
        if score > best_score:
            best, best_score = Selection(members, coefficients=weights, experts=experts), score
    return best


def _experts(
    scores: Mapping[str, Sequence[float]], order: Sequence[int], threshold: float
) -> dict[str, int]:
    """Return the best ingredient on each group; correlated groups have one together."""
    from stockpot.statistics.correlated_groups import correlated_groups

    rank = {ingredient: place for place, ingredient in enumerate(order)}
    experts: dict[str, int] = {}
    for names in correlated_groups(scores, threshold):
        totals = {one: sum(scores[name][one] for name in names) for one in order}
        expert = max(order, key=lambda one: (totals[one], -rank[one]))
        experts |= dict.fromkeys(names, expert)
    return experts


def _most_often(experts: Mapping[str, int], order: Sequence[int]) -> list[int]:
    """Return the experts, those of most groups first; of equal numbers, the best on val."""
    chosen = [*experts.values()]
    return sorted({*chosen}, key=lambda one: (-chosen.count(one), order.index(one)))


def _grid(count: int, steps: int) -> list[list[float]]:
    """Return the points of the simplex whose coordinates are multiples of 1 / steps.

    The most even ones come first, so that they are preferred among equal scores.
    """
    whole = sorted(_compositions(count, steps), key=lambda parts: sum(p * p for p in parts))
    return [[part / steps for part in parts] for parts in whole]


def _compositions(count: int, total: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to write a number as a sum of `count` whole numbers from 0, in order."""
    if count == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(count - 1, total - first):
            yield (first, *rest)
