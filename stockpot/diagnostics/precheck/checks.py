"""All checks of ingredients: each alone, then together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from stockpot.diagnostics.states import Mean
from stockpot.merging.states import State


@dataclass(frozen=True, slots=True)
class Candidates:
    """M ingredients to be merged.

    Attributes:
        states: their tensors by name.
        scores: their val scores by name, higher is better.
        order: their names, best first.
        base: the tensors of the base that they were fine-tuned from.
        base_score: the val score of the base.
        mean: states -> their uniform soup.
    """

    states: Mapping[str, State]
    scores: Mapping[str, float]
    order: Sequence[str]
    base: State
    base_score: float
    mean: Mean

    def without(self, left_out: set[str]) -> Candidates:
        """Return all ingredients but some."""
        kept = {name: state for name, state in self.states.items() if name not in left_out}
        scores = {name: self.scores[name] for name in kept}
        return replace(self, states=kept, scores=scores, order=[n for n in self.order if n in kept])


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
    names = [*candidates.states]
    checks = [
        check
        for name, state in candidates.states.items()
        for check in check_tensors(name, state, candidates.base)
    ]
    mergeable = candidates.without(_failed(checks))
    bound = None
    if mergeable.states:
        on_val, accepted = _check_together(mergeable, lambda s: float(values(s).mean()), limit)
        checks += on_val
        if accepted:
            mean = values(mergeable.mean([mergeable.states[name] for name in accepted]))
            bound = error_bound(mean, delta, len(names), len(names) - len(accepted))
    return sorted(checks, key=lambda check: names.index(str(check.ingredient))), bound


def _check_together(
    mergeable: Candidates, score: Callable[[State], float], limit: float
) -> tuple[list[Check], list[str]]:
    """Return the checks of mergeable ingredients, and the names of those that passed all."""
    states, base = mergeable.states, mergeable.base
    checks = [
        *check_starts(states, base),
        *check_duplicates(states),
        *check_scores(mergeable.scores, mergeable.base_score, limit),
    ]
    trusted = mergeable.without(_failed(checks))
    if not trusted.states:
        return checks, []
    start = most_alike(trusted.states, base)
    order = [start, *(name for name in trusted.order if name != start)]
    lines = running_lines(states, base, order, score, mergeable.mean, limit)
    accepted = [start, *(name for name, line in lines.items() if line.fall <= limit)]
    members = [states[name] for name in accepted]
    # Ingredients that failed before are measured too, so that all evidence is reported.
    for name in states:
        if name not in trusted.states:
            lines[name] = line_to(states[name], members, base, score, mergeable.mean)
    return [*checks, *line_checks(lines, limit)], accepted


def _failed(checks: Sequence[Check]) -> set[str]:
    return {str(check.ingredient) for check in checks if not check.passed}
