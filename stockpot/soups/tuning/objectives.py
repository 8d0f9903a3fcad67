"""How a search compares candidates: objectives, floors, and the choice of the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

BEST_INGREDIENT: Literal["best_ingredient"] = "best_ingredient"

OBJECTIVES = ("val", "val_shift", "loss", "sparsity")
"""Objectives of every workload; the others are its metrics by name, on val."""

MINIMIZED = frozenset({"loss"})
"""Of all others, higher is better."""

Floors: TypeAlias = Mapping[str, float]
"""Objective -> the value that must be reached; for those that are minimized, not exceeded."""


def violations(floors: Floors, values: Mapping[str, float]) -> tuple[float, ...]:
    """Return by how much each floor is missed, in the unit of its objective; <= 0 where it is met.

    Args:
        floors: of some objectives.
        values: of all objectives that have floors.
    """
    return tuple(_gain(name, floor) - _gain(name, values[name]) for name, floor in floors.items())


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of a candidate: one value per objective, and the violation of each floor."""

    values: tuple[float, ...]
    violations: tuple[float, ...] = ()

    @property
    def missed(self) -> float:
        """The largest violation; 0 if all floors are met."""
        return max(0.0, *self.violations) if self.violations else 0.0


T = TypeVar("T")


def best_of(
    candidates: Sequence[T], objectives: Sequence[str], scored: Callable[[T], Scored]
) -> tuple[T, list[T]]:
    """Choose among candidates.

    Those that miss a floor are left out; if all do, those that miss it least remain. Of a front of
    `val` and `val_shift` the one with the highest sum is chosen; of other fronts, whose objectives
    have no common unit, the best in the first objective, then in the second. Of equal candidates
    the first is chosen.

    Args:
        candidates: in the order in which they were tried; at least one.
        objectives: one or several.
        scored: candidate -> its scores.

    Returns:
        The chosen one; and, with several objectives, the Pareto front, sorted by the first one.
    """
    least = min(scored(one).missed for one in candidates)
    allowed = [one for one in candidates if scored(one).missed == least]

    def gains(one: T) -> tuple[float, ...]:
        return tuple(map(_gain, objectives, scored(one).values))

    if len(objectives) == 1:
        return max(allowed, key=gains), []
    front = _front(allowed, gains)
    if {*objectives} == {"val", "val_shift"}:
        return max(front, key=lambda one: sum(gains(one))), front
    return max(front, key=gains), front


def _front(candidates: Sequence[T], gains: Callable[[T], tuple[float, ...]]) -> list[T]:
    """Return the candidates that no other one dominates, the first of equal ones, sorted."""
    first: dict[tuple[float, ...], T] = {}
    for one in candidates:
        first.setdefault(gains(one), one)
    return [
        first[own]
        for own in sorted(first)
        if not any(other != own and all(map(_at_least, other, own)) for other in first)
    ]


def _at_least(first: float, second: float) -> bool:
    return first >= second


def _gain(objective: str, value: float) -> float:
    """Return a value whose higher is better; the lowest for one that is not a number."""
    if math.isnan(value):
        return -math.inf
    return -value if objective in MINIMIZED else value
