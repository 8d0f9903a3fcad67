"""Greedy selection that tries different ingredients first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from point_soups import PointSoups

from stockpot.errors import InputError
from stockpot.soups.selection.candidates import Candidates
from stockpot.soups.selection.diverse_greedy import diverse_greedy
from stockpot.soups.selection.greedy import greedy

RIGHT = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1]]).double()


def _candidates() -> Candidates:
    """Return three ingredients whose soups are right on the examples that a member is right on."""
    scores = RIGHT.mean(dim=1).tolist()
    return Candidates([0, 1, 2], scores, lambda members: RIGHT[[*members]].amax(dim=0))


def test_the_ingredient_with_the_most_different_errors_is_tried_first() -> None:
    chosen = diverse_greedy(_candidates())

    assert [step.ingredient for step in chosen.steps] == [0, 2, 1]
    assert [step.score for step in chosen.steps] == pytest.approx([4 / 6, 1.0, 1.0])
    assert chosen.members == [0, 2, 1]


def test_differences_are_from_the_soup_so_far() -> None:
    # From 0.1: 4, then from the mean 2.05: -3 differs more than 1.
    candidates = PointSoups([0.1, 1.0, 4.0, -3.0], aims=[0.0]).candidates()

    tried = [step.ingredient for step in diverse_greedy(candidates).steps]

    assert tried == [0, 2, 3, 1]


def test_the_task_vector_that_points_most_away_is_tried_first() -> None:
    vectors = np.array([[1.0, 0.0], [0.9, 0.1], [-1.0, 1.0], [0.0, 1.0]])
    candidates = Candidates(
        [0, 1, 2, 3],
        [0.9, 0.8, 0.7, 0.6],
        lambda members: torch.tensor([float(len(members))]),  # all are accepted
        inner_products=lambda: vectors @ vectors.T,
    )

    tried = [step.ingredient for step in diverse_greedy(candidates, by="task_vectors").steps]

    # After 2 the soup's task vector is (0, 1/2): 1 points away from it, 3 along it.
    assert tried == [0, 2, 1, 3]


@given(points=st.lists(st.floats(-20, 20), min_size=1, max_size=6), aim=st.floats(-20, 20))
def test_it_is_greedy_where_all_are_equally_different(points: list[float], aim: float) -> None:
    candidates = PointSoups(points, [aim]).candidates()
    zeros = np.zeros((len(points), len(points)))
    candidates = replace(candidates, inner_products=lambda: zeros)

    assert diverse_greedy(candidates, by="task_vectors") == greedy(candidates)


def test_task_vectors_need_a_base() -> None:
    with pytest.raises(InputError, match="needs the base of the ingredients"):
        diverse_greedy(_candidates(), by="task_vectors")
