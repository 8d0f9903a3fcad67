from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stockpot.soups.selection.candidates import Step
from stockpot.soups.selection.greedy import greedy_steps
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank

# Whole numbers: sums and comparisons are exact.
values = st.lists(st.integers(-5, 5), min_size=1, max_size=8)


def _additive(own: Sequence[int]) -> list[Step]:
    """Choose greedily where a soup's score is the sum of its ingredients' values."""
    return greedy_steps(range(len(own)), lambda members: _one(sum(own[m] for m in members)))


def _one(score: float) -> Tensor:
    """Return the values of a val split of one example."""
    return torch.tensor([score], dtype=torch.float64)


def _step(ingredient: int, score: float, *, accepted: bool, best: float) -> Step:
    return Step(ingredient, score, accepted, best, _one(score))


def _members(steps: Sequence[Step]) -> list[int]:
    return [step.ingredient for step in steps if step.accepted]


@given(own=values)
def test_greedy_with_additive_scores_keeps_all_that_do_not_lower_the_sum(own: list[int]) -> None:
    assert _members(_additive(own)) == [0, *(m for m in range(1, len(own)) if own[m] >= 0)]


@given(points=st.lists(st.integers(-20, 20), min_size=1, max_size=8), aim=st.integers(-20, 20))
def test_greedy_is_recipe_1_word_by_word(points: list[int], aim: int) -> None:
    def score(members: Sequence[int]) -> float:
        return -abs(sum(points[m] for m in members) / len(members) - aim)

    order = sorted(range(len(points)), key=lambda p: -score([p]))
    soup: list[int] = []
    for ingredient in order:
        if not soup or score([*soup, ingredient]) >= score(soup):
            soup = [*soup, ingredient]

    steps = greedy_steps(order, lambda members: _one(score(members)))

    assert _members(steps) == soup
    assert steps[-1].best == score(soup)


@given(points=st.lists(st.floats(-1, 1), min_size=1, max_size=8))
def test_greedy_is_never_below_the_best_ingredient(points: list[float]) -> None:
    def score(members: Sequence[int]) -> float:
        return sum(points[m] for m in members) / len(members)

    order = _ranked(points, [str(p) for p in range(len(points))])

    steps = greedy_steps(order, lambda members: _one(score(members)))

    assert steps[-1].best >= max(points)
    assert all(later.best >= step.best for step, later in itertools.pairwise(steps))


def test_greedy_tries_each_ingredient_once_in_order() -> None:
    tried: list[list[int]] = []

    def score(members: Sequence[int]) -> Tensor:
        tried.append(list(members))
        return _one(-float(2 in members))

    steps = greedy_steps([1, 2, 0], score)

    assert tried == [[1], [1, 2], [1, 0]]
    assert steps == [
        _step(1, 0.0, accepted=True, best=0.0),
        _step(2, -1.0, accepted=False, best=0.0),
        _step(0, 0.0, accepted=True, best=0.0),
    ]


def test_greedy_accepts_a_tie() -> None:
    assert _members(_additive([3, 0, 0])) == [0, 1, 2]


def test_greedy_decides_by_the_mean_and_keeps_the_values_of_each_candidate() -> None:
    values = {(0,): [1.0, 0, 0], (0, 1): [0.0, 1, 1], (0, 1, 2): [0.0, 1, 0]}
    rows = {members: torch.tensor(row, dtype=torch.float64) for members, row in values.items()}

    steps = greedy_steps(range(3), lambda members: rows[tuple(members)])

    assert [step.accepted for step in steps] == [True, True, False]
    assert [step.score for step in steps] == pytest.approx([1 / 3, 2 / 3, 1 / 3])
    assert all(step.values is row for step, row in zip(steps, rows.values(), strict=True))


def test_greedy_of_one_ingredient_is_that_ingredient() -> None:
    assert _additive([-4]) == [_step(0, -4, accepted=True, best=-4)]


def _ranked(scores: Sequence[float], names: Sequence[str]) -> list[int]:
    """Rank models of these val scores and names."""
    models = [
        Model(name, "ingredient", "key", "", "", 0, 0, {"val/accuracy": score})
        for score, name in zip(scores, names, strict=True)
    ]
    return rank(models, "val/accuracy")


def test_rank_orders_by_score_from_the_best() -> None:
    assert _ranked([0.1, 0.9, 0.5], ["a", "b", "c"]) == [1, 2, 0]


def test_rank_orders_equal_scores_by_name() -> None:
    assert _ranked([0.5, 0.9, 0.5, 0.5], ["c", "z", "a", "b"]) == [1, 2, 3, 0]


def test_rank_orders_equal_scores_by_loss_before_name() -> None:
    models = [
        Model(key, "ingredient", key, "", "", 0, 0, {"val/accuracy": score, "val/loss": loss})
        for key, score, loss in [("a", 0.5, 0.3), ("b", 0.5, 0.2), ("c", 0.9, 0.9), ("d", 0.5, 0.2)]
    ]

    assert rank(models, "val/accuracy") == [2, 1, 3, 0]


@given(scores=st.lists(st.sampled_from([0.1, 0.5, 0.9]), max_size=8), order=st.data())
def test_rank_does_not_depend_on_the_order_of_training(
    scores: list[float], order: st.DataObject
) -> None:
    keys = [f"key {number}" for number in range(len(scores))]
    shuffled = order.draw(st.permutations(range(len(scores))))

    ranked = [keys[p] for p in _ranked(scores, keys)]
    ranked_shuffled = _ranked([scores[p] for p in shuffled], [keys[p] for p in shuffled])

    assert [keys[shuffled[p]] for p in ranked_shuffled] == ranked


def test_rank_of_nothing_is_nothing() -> None:
    assert _ranked([], []) == []


@pytest.mark.parametrize("lengths", [(2, 1), (1, 2)])
def test_step_says_what_was_decided(lengths: tuple[int, int]) -> None:
    steps = _additive([lengths[0], -lengths[1]])

    assert steps[1] == _step(1, lengths[0] - lengths[1], accepted=False, best=lengths[0])
