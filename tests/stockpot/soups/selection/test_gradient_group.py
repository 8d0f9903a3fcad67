"""The group of ingredients whose gradients agree and whose soup is best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.soups.selection.candidates import Candidates, Group
from stockpot.soups.selection.gradient_group import gradient_group

ANGLES = np.deg2rad([0, 150, 10, 170, 160])  # two groups: 0 and 2, and 1, 3 and 4


def _candidates(scores: Sequence[float]) -> Candidates:
    """Return candidates whose soups score the mean of their ingredients."""

    def score(members: Sequence[int]) -> Tensor:
        return torch.tensor([scores[member] for member in members], dtype=torch.float64)

    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    cosines = np.cos(ANGLES[:, None] - ANGLES[None, :])[: len(scores), : len(scores)]
    return Candidates(order, scores, score, lambda: cosines)


def test_the_better_group_is_chosen_and_both_are_recorded() -> None:
    selection = gradient_group(_candidates([0.9, 0.7, 0.8, 0.6, 0.5]))

    assert selection.members == [0, 2]
    assert [group.members for group in selection.groups] == [[0, 2], [1, 3, 4]]
    assert selection.groups[1] == Group([1, 3, 4], pytest.approx(0.6))


@pytest.mark.parametrize(("rank", "members"), [(1, [1, 3, 4]), (2, [0, 2]), (9, [0, 2])])
def test_a_rank_names_one_of_the_groups(rank: int, members: list[int]) -> None:
    assert gradient_group(_candidates([0.1, 0.7, 0.2, 0.6, 0.5]), rank=rank).members == members


def test_a_threshold_splits_further_and_groups_have_a_limit() -> None:
    candidates = _candidates([0.1, 0.7, 0.2, 0.6, 0.5])

    assert len(gradient_group(candidates, threshold=0.995, max_groups=9).groups) == 5
    assert len(gradient_group(candidates, threshold=0.995, max_groups=3).groups) == 3
    assert gradient_group(candidates, threshold=-1).members == [0, 1, 2, 3, 4]


def test_without_gradients_it_is_refused() -> None:
    candidates = Candidates([0], [0.5], lambda _: torch.zeros(1))

    with pytest.raises(InputError, match="known in an experiment alone; take another selection"):
        gradient_group(candidates)
