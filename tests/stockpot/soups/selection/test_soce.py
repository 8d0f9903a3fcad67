from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.soups.selection.candidates import Candidates, Selection
from stockpot.soups.selection.soce import soce

# Ingredient 2 is best at reading and spelling, which go together; 0 at sums; 1 at nothing.
SKILLS = {
    "reading": [0.2, 0.5, 0.9],
    "spelling": [0.3, 0.5, 0.8],
    "sums": [0.9, 0.4, 0.3],
    "solved by all": [1.0, 1.0, 1.0],
}
BEST = {2: 0.7, 0: 0.3}  # the coefficients of the best soup


def _weighted(members: Sequence[int], coefficients: Sequence[float]) -> Tensor:
    shares = dict(zip(members, coefficients, strict=True))
    off = sum((shares.get(one, 0.0) - BEST.get(one, 0.0)) ** 2 for one in range(3))
    return torch.full((4,), 1 - off, dtype=torch.float64)


def _unscored(_members: Sequence[int]) -> Tensor:
    raise AssertionError("only weighted soups are scored")


def _candidates(skills: Mapping[str, Sequence[float]] = SKILLS) -> Candidates:
    means = [sum(own) / 4 for own in zip(*SKILLS.values(), strict=True)]
    order = sorted(range(3), key=lambda one: -means[one])
    return Candidates(order, means, _unscored, None, lambda: skills, _weighted)


def test_each_group_has_its_expert_and_their_coefficients_are_searched() -> None:
    chosen = soce(_candidates())

    assert chosen == Selection(
        [2, 0],
        coefficients=[0.7, 0.3],
        experts={"reading": 2, "spelling": 2, "sums": 0},
    )


def test_of_correlated_groups_alone_the_best_ingredient_is_chosen_without_a_search() -> None:
    skills = {"reading": SKILLS["reading"], "spelling": SKILLS["spelling"]}

    assert soce(_candidates(skills)) == Selection([2])


def test_a_group_that_correlates_with_all_others_has_no_expert() -> None:
    skills = {"a": [1.0, 0.0, 0.0], "middle": [1.0, 0.0, 1.1], "c": [0.0, 0.0, 1.0]}

    chosen = soce(_candidates(skills), threshold=0.4)

    assert chosen.experts == {"a": 0, "c": 2}


def test_the_experts_of_most_groups_are_merged_if_there_are_too_many() -> None:
    chosen = soce(_candidates(), max_experts=1)

    assert chosen.members == [2]


def test_every_expert_takes_part_even_if_it_does_not_help() -> None:
    skills = SKILLS | {"running": [0.2, 0.9, 0.2]}

    chosen = soce(_candidates(skills))

    assert chosen.members == [2, 0, 1]
    assert chosen.coefficients == [0.6, 0.3, 0.1]


def test_equal_coefficients_are_tried_even_if_they_are_no_multiples_of_a_step() -> None:
    chosen = soce(_candidates(), steps=1)

    assert (chosen.members, chosen.coefficients) == ([2, 0], [0.5, 0.5])


def test_groups_that_tell_nothing_leave_the_best_ingredient() -> None:
    skills = {"a": [1.0] * 3, "b": [0.5] * 3}
    candidates = _candidates(skills)

    assert soce(candidates).members == [candidates.order[0]]


def test_it_needs_groups_of_examples() -> None:
    with pytest.raises(InputError, match=r"soce needs two groups of val .*, got \[\]"):
        soce(_candidates({}))
    with pytest.raises(InputError, match="soce needs the scores of groups"):
        soce(Candidates([0, 1], [0.5, 0.4], _unscored, score_weighted=_weighted))
