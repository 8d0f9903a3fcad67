"""Ingredients that are added several times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from point_soups import PointSoups

from stockpot.soups.selection.candidates import Selection
from stockpot.soups.selection.greedy_with_replacement import greedy_with_replacement

points = st.lists(st.integers(-20, 20), min_size=1, max_size=6)


def test_an_ingredient_counts_as_often_as_it_was_added() -> None:
    soups = PointSoups([3.0, 0.0], aims=[1.0])

    chosen = greedy_with_replacement(soups.candidates(), additions=5)

    # 0, then 0 and 3 at 1.5, then 0 twice and 3 at 1: further additions lead away.
    assert chosen == Selection([1, 0], coefficients=[2 / 3, 1 / 3])


def test_ingredients_that_were_added_once_have_no_coefficients() -> None:
    chosen = greedy_with_replacement(PointSoups([0.0, 2.0], aims=[1.0]).candidates(), additions=4)

    assert chosen == Selection([0, 1])


def test_the_score_may_fall_on_the_way_to_a_better_soup() -> None:
    # Of 0 and 5 the best mean for 1 is one in five, after 2.5 and 1.67, which are worse than 0.
    chosen = greedy_with_replacement(PointSoups([0.0, 5.0], aims=[1.0]).candidates(), additions=7)

    assert chosen == Selection([0, 1], coefficients=[0.8, 0.2])


@given(points=points, aim=st.integers(-20, 20))
def test_a_single_addition_is_the_best_ingredient(points: list[float], aim: int) -> None:
    candidates = PointSoups(points, [aim]).candidates()

    assert greedy_with_replacement(candidates, additions=1) == Selection([candidates.order[0]])


@given(points=points, aim=st.integers(-20, 20))
def test_it_is_never_below_the_best_ingredient(points: list[float], aim: int) -> None:
    soups = PointSoups(points, [aim])
    candidates = soups.candidates()

    chosen = greedy_with_replacement(candidates, additions=6)

    shares = chosen.coefficients or [1.0] * len(chosen.members)
    assert soups.values(chosen.members, shares).item() >= max(candidates.scores)


@pytest.mark.parametrize(("count", "additions", "evaluations"), [(1, 4, 4), (3, 4, 10), (5, 1, 1)])
def test_evaluations_are_as_documented(count: int, additions: int, evaluations: int) -> None:
    soups = PointSoups([float(place) for place in range(count)], aims=[0.3])

    greedy_with_replacement(soups.candidates(), additions=additions)

    assert len(soups.scored) == evaluations


def test_bags_average_the_soups_of_random_halves() -> None:
    soups = PointSoups([0.0, 1.0], aims=[0.0])  # a half is one ingredient

    chosen = greedy_with_replacement(soups.candidates(seed=3), additions=2, bags=10)

    shares = dict(zip(chosen.members, chosen.coefficients, strict=True))
    drawn = {members for members, _ in soups.scored}
    assert drawn == {(0,), (1,)}
    assert shares[0] + shares[1] == pytest.approx(1)
    assert round(10 * shares[0], 9).is_integer()


def test_bags_depend_on_the_seed_alone() -> None:
    soups = PointSoups([0.0, 1.0, 4.0, 9.0, -2.0], aims=[0.4])

    def chosen(seed: int) -> Selection:
        return greedy_with_replacement(soups.candidates(seed), additions=3, bags=3)

    assert chosen(1) == chosen(1)
    assert len({tuple(chosen(seed).coefficients) for seed in range(5)}) > 1
