"""All checks of ingredients: each alone, then together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from stockpot.diagnostics.precheck.check import Check
from stockpot.diagnostics.precheck.error_bound import error_bound
from stockpot.diagnostics.precheck.lines import (
    check_scores,
    line_checks,
    line_to,
    most_alike,
    running_lines,
)
from stockpot.diagnostics.precheck.tensors import check_duplicates, check_starts, check_tensors
from stockpot.diagnostics.states import mean_state
from stockpot.merging.states import State


@dataclass(frozen=True, slots=True)
class Candidates:
    """M ingredients to be merged.

    Attributes:
        names: of the ingredients.
        states: their tensors.
        scores: their val scores, higher is better.
        order: their positions, best first.
        base: the tensors of the base that they were fine-tuned from.
        base_score: the val score of the base.
    """

    names: Sequence[str]
    states: Sequence[State]
    scores: Sequence[float]
    order: Sequence[int]
    base: State
    base_score: float

    def of(self, chosen: Sequence[int]) -> Candidates:
        """Return the ingredients at these positions, in this order."""
        places = {place: new for new, place in enumerate(chosen)}
        return Candidates(
            names=[self.names[place] for place in chosen],
            states=[self.states[place] for place in chosen],
            scores=[self.scores[place] for place in chosen],
            order=[places[place] for place in self.order if place in places],
            base=self.base,
            base_score=self.base_score,
        )


def run_checks(
    candidates: Candidates, values: Callable[[State], Tensor], limit: float, delta: float
) -> tuple[list[Check], dict[str, Any] | None]:
    """Check whether each ingredient can be merged at all, and whether it fits to the others.

    Args:
        candidates: at least one ingredient.
        values: state -> the metric of each example of val; (N,).
        limit: the largest fall of its mean that passes.
        delta: the probability that the error bound is wrong.

    Returns:
        The checks, ingredient by ingredient; and the `error_bound` of the mean of the ingredients
        that passed, None if none did.
    """
    every = range(len(candidates.names))
    checks = [
        check
        for name, state in zip(candidates.names, candidates.states, strict=True)
        for check in check_tensors(name, state, candidates.base)
    ]
    failed = _failed(checks)
    mergeable = candidates.of([p for p in every if candidates.names[p] not in failed])
    bound = None
    if mergeable.names:
        on_val, accepted = _check_together(mergeable, lambda s: float(values(s).mean()), limit)
        checks += on_val
        if accepted:
            mean = values(mean_state([mergeable.states[place] for place in accepted]))
            bound = error_bound(mean, delta, len(every), len(every) - len(accepted))
    places = {name: place for place, name in enumerate(candidates.names)}
    return sorted(checks, key=lambda check: places[str(check.ingredient)]), bound


def _check_together(
    mergeable: Candidates, score: Callable[[State], float], limit: float
) -> tuple[list[Check], list[int]]:
    """Return the checks of mergeable ingredients, and the positions of those that passed all."""
    checks = [
        *check_starts(mergeable.names, mergeable.states, mergeable.base),
        *check_duplicates(mergeable.names, mergeable.states),
        *check_scores(mergeable.names, mergeable.scores, mergeable.base_score, limit),
    ]
    failed = _failed(checks)
    trusted = [place for place, name in enumerate(mergeable.names) if name not in failed]
    if not trusted:
        return checks, []
    start = trusted[most_alike([mergeable.states[place] for place in trusted], mergeable.base)]
    order = [start, *(p for p in mergeable.order if p in trusted and p != start)]
    lines = running_lines(mergeable.states, mergeable.base, order, score, limit)
    accepted = [start, *(place for place, line in lines.items() if line.fall <= limit)]
    members = [mergeable.states[place] for place in accepted]
    # Ingredients that failed before are measured too, so that all evidence is reported.
    for place in range(len(mergeable.names)):
        if place not in trusted:
            lines[place] = line_to(mergeable.states[place], members, mergeable.base, score)
    return [*checks, *line_checks(mergeable.names, lines, limit)], accepted


def _failed(checks: Sequence[Check]) -> set[str | None]:
    return {check.ingredient for check in checks if not check.passed}
