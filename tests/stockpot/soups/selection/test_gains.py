from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stockpot.soups.selection.gains import soup_gains


def _score_of(worth: Sequence[float]) -> Callable[[Sequence[int]], Tensor]:
    """A soup is worth the mean of its members, plus 1 for each that is of another kind."""

    def score(members: Sequence[int]) -> Tensor:
        mean = sum(worth[member] for member in members) / len(members)
        return torch.tensor([mean + len({member % 2 for member in members})])

    return score


def test_a_copy_of_what_is_there_adds_nothing_and_another_kind_does() -> None:
    # 0 is the best; 2, of its kind, lowers the mean; 1 is of another kind and goes in.
    gains = soup_gains([0, 1, 2], _score_of([4.0, 3.0, 2.9]))

    soup = (4.0 + 3.0) / 2 + 2
    assert gains == pytest.approx([soup - (3.0 + 1), soup - (4.0 + 1), 9.9 / 3 + 2 - soup])
    assert gains[2] < 0 < gains[1]


def test_a_soup_of_one_gains_what_it_has_over_the_second_best() -> None:
    gains = soup_gains([0, 2], _score_of([4.0, 0.0, 1.0]))

    assert gains == pytest.approx([3.0, -1.5])


@given(worth=st.lists(st.integers(-5, 5), min_size=2, max_size=6))
def test_no_ingredient_outside_the_soup_would_be_taken(worth: list[int]) -> None:
    def score(members: Sequence[int]) -> Tensor:
        return torch.tensor([float(sum(worth[member] for member in members))])

    order = sorted(range(len(worth)), key=lambda position: -worth[position])

    gains = soup_gains(order, score)

    outside = [gains[i] for i in range(len(worth)) if worth[i] < 0 and i != order[0]]
    assert all(gain < 0 for gain in outside)
