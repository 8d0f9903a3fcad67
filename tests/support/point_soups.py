"""Candidates for tests of selections: points as ingredients, whose soups score by closeness."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stockpot.soups.selection.candidates import WeightedCandidates


class PointSoups:
    """Points on a line as ingredients; on each val example, a soup scores minus its distance.

    Attributes:
        scored: the soups that were scored, in order: positions and coefficients.
    """

    def __init__(self, points: Sequence[float], aims: Sequence[float]) -> None:
        """Take the ingredients and, for each val example, the best point."""
        self._points = torch.tensor(points, dtype=torch.float64)
        self._aims = torch.tensor(aims, dtype=torch.float64)
        self.scored: list[tuple[tuple[int, ...], tuple[float, ...]]] = []

    def candidates(self, seed: int = 0) -> WeightedCandidates:
        """Return the argument of a selection."""
        scores = [self.values([place], [1.0]).mean().item() for place in range(len(self._points))]
        order = sorted(range(len(scores)), key=lambda place: -scores[place])
        self.scored.clear()
        return WeightedCandidates(
            order,
            scores,
            lambda members: self.values(members, [1.0] * len(members)),
            score_weighted=self.values,
            inner_products=lambda: torch.outer(self._points, self._points).numpy(),
            seed=seed,
        )

    def values(self, members: Sequence[int], coefficients: Sequence[float]) -> Tensor:
        """Return minus the distances (N,) of a weighted mean from the best points."""
        self.scored.append((tuple(members), tuple(coefficients)))
        shares = torch.tensor(coefficients, dtype=torch.float64)
        return -(self._aims - shares @ self._points[[*members]] / shares.sum()).abs()


def additive(own: Sequence[float], score: Callable[[float], float] = float) -> WeightedCandidates:
    """Return candidates whose soups score the sum of their ingredients' values, on one example."""

    def values(members: Sequence[int]) -> Tensor:
        return torch.tensor([score(sum(own[member] for member in members))], dtype=torch.float64)

    def weighted(_members: Sequence[int], _coefficients: Sequence[float]) -> Tensor:
        raise AssertionError("only soups without coefficients are scored")

    order = sorted(range(len(own)), key=lambda place: -own[place])
    return WeightedCandidates(order, own, values, score_weighted=weighted)
