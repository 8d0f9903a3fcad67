"""Greedy selection that follows several soups."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from point_soups import PointSoups

from stockpot.soups.selection.beam import beam
from stockpot.soups.selection.greedy import greedy

points = st.lists(st.floats(-20, 20), min_size=1, max_size=5)
aims = st.lists(st.floats(-20, 20), min_size=1, max_size=3)


@given(points=points, aims=aims)
def test_a_beam_of_width_one_is_greedy(points: list[float], aims: list[float]) -> None:
    candidates = PointSoups(points, aims).candidates()

    assert beam(candidates, width=1).members == greedy(candidates).members


@given(points=points, aims=aims)
def test_a_beam_of_all_soups_finds_the_best(points: list[float], aims: list[float]) -> None:
    candidates = PointSoups(points, aims).candidates()
    order = candidates.order
    every = [c for size in range(len(order)) for c in combinations(order, size + 1)]

    chosen = beam(candidates, width=2 ** len(points))

    best = max(candidates.score(members).mean().item() for members in every)
    assert candidates.score(chosen.members).mean().item() == best


def test_a_wider_beam_follows_a_soup_that_greedy_leaves() -> None:
    # The score falls three times as fast to the left of 0 as to the right of it.
    candidates = PointSoups([3.0, -1.4, -3.0], aims=[0.0, 0.0, 10.0]).candidates()

    assert greedy(candidates).members == [0, 1]  # at 0.8, and with -3 at -0.47
    assert beam(candidates, width=2).members == [0, 2]  # at 0


def test_each_step_scores_the_followed_soups_with_one_ingredient() -> None:
    soups = PointSoups([0.0, 1.0, 2.0, 3.0], aims=[0.0])

    beam(soups.candidates(), width=2)

    # Nothing and 0; then 0 and nothing are followed; then the best two of 0, 0 and 1, 1.
    assert [members for members, _ in soups.scored] == [
        (0,),
        *[(0, 1), (1,)],
        *[(0, 2), (0, 1, 2)],
        *[(0, 3), (0, 1, 3)],
    ]
