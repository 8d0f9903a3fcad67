"""Greedy selection that stops where held-out examples say so."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from point_soups import PointSoups
from torch import Tensor

from stockpot.errors import InputError
from stockpot.soups.selection.candidates import Candidates
from stockpot.soups.selection.cross_validated_greedy import cross_validated_greedy
from stockpot.soups.selection.greedy import greedy

points = st.lists(st.integers(-20, 20), min_size=1, max_size=6)


@given(points=points, aim=st.integers(-20, 20))
def test_it_is_greedy_where_all_folds_are_alike(points: list[float], aim: int) -> None:
    candidates = PointSoups(points, aims=[aim] * 6).candidates()

    assert cross_validated_greedy(candidates, folds=3) == greedy(candidates)


def _of_four_examples(both: Sequence[float]) -> Candidates:
    """Return a good and a bad ingredient, whose soup has these values."""
    values = {(0,): [0.5] * 4, (1,): [0.0] * 4, (0, 1): both}

    def score(members: Sequence[int]) -> Tensor:
        return torch.tensor(values[tuple(members)], dtype=torch.float64)

    return Candidates([0, 1], [0.5, 0.0], score)


def test_an_ingredient_that_helps_on_one_example_alone_is_left_out() -> None:
    candidates = _of_four_examples([2.1, 0.0, 0.0, 0.0])

    chosen = cross_validated_greedy(candidates, folds=4)

    # On all of val the soup of both wins by 0.525 to 0.5. Of the folds, each with one example held
    # out, three accept both, which score 0 where 0 alone has 0.5; one accepts 0 alone.
    assert greedy(candidates).members == [0, 1]
    assert chosen.members == [0]
    assert [step.ingredient for step in chosen.steps] == [0]


def test_an_ingredient_that_helps_on_held_out_examples_is_accepted() -> None:
    candidates = _of_four_examples([0.6, 0.6, 0.6, 0.4])

    chosen = cross_validated_greedy(candidates, folds=4)

    assert chosen == greedy(candidates)
    assert chosen.members == [0, 1]


def test_folds_that_choose_alike_score_few_soups() -> None:
    soups = PointSoups([0.0, 1.0, 2.0, 3.0], aims=[0.0] * 10)

    cross_validated_greedy(soups.candidates(), folds=5)

    # Each alone, and the best with each other one.
    assert sorted(members for members, _ in soups.scored) == [
        (0,), (0, 1), (0, 2), (0, 3), (1,), (2,), (3,)
    ]  # fmt: skip


def test_val_must_have_an_example_per_fold() -> None:
    candidates = PointSoups([0.0, 1.0], aims=[0.5] * 3).candidates()

    with pytest.raises(InputError, match=r"folds must be at most 3, the number of val .* got 4"):
        cross_validated_greedy(candidates, folds=4)
