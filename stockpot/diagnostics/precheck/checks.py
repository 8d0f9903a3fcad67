"""All checks of ingredients, in the order in which one makes the next one possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from stockpot.diagnostics.precheck.check import Check
from stockpot.diagnostics.precheck.error_bound import certify
from stockpot.diagnostics.precheck.lines import (
    check_scores,
    mean_of,
    most_alike,
    path_checks,
    path_to,
    walk,
)
from stockpot.diagnostics.precheck.tensors import check_duplicates, check_starts, check_tensors

State: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Candidates:
    """M ingredients that are to be merged.

    Attributes:
        names: theirs.
        states: their tensors.
        scores: theirs on val, higher is better.
        order: their positions, best first.
        base: the tensors of what they started from.
        base_score: the base's on val.
    """

    names: Sequence[str]
    states: Sequence[State]
    scores: Sequence[float]
    order: Sequence[int]
    base: State
    base_score: float

    def of(self, chosen: Sequence[int]) -> Candidates:
        """Return some of them, by position, in their order."""
        places = {place: new for new, place in enumerate(chosen)}
        return Candidates(
            names=[self.names[place] for place in chosen],
            states=[self.states[place] for place in chosen],
            scores=[self.scores[place] for place in chosen],
            order=[places[place] for place in self.order if place in places],
            base=self.base,
            base_score=self.base_score,
        )


def examine(
    candidates: Candidates, values: Callable[[State], Tensor], limit: float, delta: float
) -> tuple[list[Check], dict[str, Any] | None]:
    """Check ingredients: whether they can be merged at all, by themselves, and with each other.

    Args:
        candidates: at least one.
        values: of weights, the metric of each example of val; (N,).
        limit: the largest fall of its mean that passes.
        delta: the probability that the certificate is wrong.

    Returns:
        The checks, ingredient by ingredient; and what `certify` says of the mean of those that
        passed, None if none did.
    """
    every = range(len(candidates.names))
    checks = [
        check
        for place in every
        for check in check_tensors(
            candidates.names[place], candidates.states[place], candidates.base
        )
    ]
    sound = candidates.of([p for p in every if candidates.names[p] not in _failed(checks)])
    certificate = None
    if sound.names:
        on_val, accepted = _examine_together(sound, lambda s: float(values(s).mean()), limit)
        checks += on_val
        if accepted:
            left_out = len(candidates.names) - len(accepted)
            mean = values(mean_of([sound.states[place] for place in accepted]))
            certificate = certify(mean, delta, len(candidates.names), left_out)
    places = {name: place for place, name in enumerate(candidates.names)}
    return sorted(checks, key=lambda check: places[str(check.ingredient)]), certificate


def _examine_together(
    sound: Candidates, score: Callable[[State], float], limit: float
) -> tuple[list[Check], list[int]]:
    """Check what can be merged; return the checks and the positions of those that passed all."""
    checks = [
        *check_starts(sound.names, sound.states, sound.base),
        *check_duplicates(sound.names, sound.states),
        *check_scores(sound.names, sound.scores, sound.base_score, limit),
    ]
    failed = _failed(checks)
    trusted = [place for place, name in enumerate(sound.names) if name not in failed]
    if not trusted:
        return checks, []
    start = trusted[most_alike([sound.states[place] for place in trusted], sound.base)]
    order = [start, *(p for p in sound.order if p in trusted and p != start)]
    paths = walk(sound.states, sound.base, order, score, limit)
    accepted = [start, *(place for place, path in paths.items() if path.fall <= limit)]
    members = [sound.states[place] for place in accepted]
    # The others are measured too: a reader should see all that speaks for and against them.
    for place in range(len(sound.names)):
        if place not in trusted:
            paths[place] = path_to(sound.states[place], members, sound.base, score)
    return [*checks, *path_checks(sound.names, paths, limit)], accepted


def _failed(checks: Sequence[Check]) -> set[str | None]:
    return {check.ingredient for check in checks if not check.passed}
