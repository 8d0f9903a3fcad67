from __future__ import annotations

import pytest

from stockpot.soups.selection.candidates import PathPoint, Paths
from stockpot.soups.selection.wise_ft import ALPHAS, wise_ft


def test_the_best_point_of_all_paths_is_first() -> None:
    scores = {(0, 0.3): 0.7, (1, 1.0): 0.6}

    found = wise_ft(Paths([1, 0], [0.5, 0.6], lambda *place: scores.get(place, 0.5)))

    assert found.points[:2] == [PathPoint(0, 0.3, 0.7), PathPoint(1, 1.0, 0.6)]
    assert found.best == found.points[0]
    assert len(found.points) == 2 * len(ALPHAS)


def test_of_equal_points_the_better_ingredients_are_first_and_then_the_middle() -> None:
    points = wise_ft(Paths([1, 0], [0.5, 0.6], lambda _ingredient, _alpha: 0.5)).points

    assert points[0] == PathPoint(1, 0.5, 0.5)
    assert {point.ingredient for point in points[: len(ALPHAS)]} == {1}
    assert [point.alpha for point in points[:3]] == pytest.approx([0.5, 0.4, 0.6])


def test_the_ingredients_themselves_are_among_the_points() -> None:
    asked: list[tuple[int, float]] = []

    wise_ft(Paths([0, 1], [0.0, 0.0], lambda *place: float(asked.append(place) or 0)))

    assert {(0, 1.0), (1, 1.0)} <= set(asked)
    assert all(0 < alpha <= 1 for _, alpha in asked)
