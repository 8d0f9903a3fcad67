"""Ingredients that are removed one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from point_soups import PointSoups, additive

from stockpot.soups.selection.backward_elimination import backward_elimination
from stockpot.soups.selection.candidates import Selection
from stockpot.soups.selection.uniform import uniform

values = st.lists(st.integers(-5, 5), min_size=1, max_size=7)


@given(own=values)
def test_with_additive_scores_those_that_lower_the_sum_are_removed(own: list[float]) -> None:
    kept = [place for place, value in enumerate(own) if value >= 0]

    chosen = backward_elimination(additive(own))

    assert chosen.members == (kept or [own.index(max(own))])


@given(own=values)
def test_it_is_uniform_where_no_removal_raises_the_score(own: list[float]) -> None:
    candidates = additive([abs(value) for value in own])

    assert backward_elimination(candidates) == uniform(candidates)


def test_the_removal_that_helps_most_comes_first() -> None:
    # From 4.5 without 11 to 7 / 3, then without 4 to 1.5; then 3 or 0 alone would be worse.
    soups = PointSoups([0.0, 3.0, 4.0, 11.0], aims=[1.4])

    assert backward_elimination(soups.candidates()) == Selection([0, 1])


def test_of_equal_removals_that_of_the_worst_ingredient_is_made() -> None:
    candidates = additive([3.0, 1.0, 2.0], score=lambda total: float(total in (4, 5)))

    # Without 1 (the sum is 5) or without 2 (4).
    assert backward_elimination(candidates) == Selection([0, 2])


@pytest.mark.parametrize(("sign", "evaluations"), [(1, 6), (-1, 15)])
def test_evaluations_are_as_documented(sign: int, evaluations: int) -> None:
    tried: list[float] = []
    candidates = additive(
        [sign * value for value in (1, 2, 3, 4, 5)], lambda s: tried.append(s) or s
    )

    backward_elimination(candidates)

    assert len(tried) == evaluations
