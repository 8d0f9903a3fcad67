from __future__ import annotations

import pytest

from stockpot.soups.selection.on_paths import ALPHAS, Place, select_on_paths


def test_the_best_point_of_all_paths_is_first() -> None:
    scores = {(0, 0.3): 0.7, (1, 1.0): 0.6}

    places = select_on_paths([1, 0], lambda *place: scores.get(place, 0.5))

    assert places[:2] == [Place(0, 0.3, 0.7), Place(1, 1.0, 0.6)]
    assert len(places) == 2 * len(ALPHAS)


def test_of_equal_points_the_better_ingredients_are_first_and_then_the_middle() -> None:
    places = select_on_paths([1, 0], lambda _ingredient, _alpha: 0.5)

    assert places[0] == Place(1, 0.5, 0.5)
    assert {place.ingredient for place in places[: len(ALPHAS)]} == {1}
    assert [place.alpha for place in places[:3]] == pytest.approx([0.5, 0.4, 0.6])


def test_the_ingredients_themselves_are_among_the_points() -> None:
    asked: list[tuple[int, float]] = []

    select_on_paths([0, 1], lambda *place: float(asked.append(place) or 0))

    assert {(0, 1.0), (1, 1.0)} <= set(asked)
    assert all(0 < alpha <= 1 for _, alpha in asked)
