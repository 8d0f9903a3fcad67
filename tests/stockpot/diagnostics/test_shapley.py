from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.diagnostics.shapley import (
    Members,
    every_subset,
    exact_weights,
    order_errors,
    order_weights,
    passed_subsets,
    random_orders,
)
from stockpot.statistics.values import Floats

Game = dict[Members, Floats]


def _random_game(num_members: int, seed: int) -> Game:
    """Give each subset a random worth in two places."""
    generator = np.random.default_rng(seed)
    return {subset: generator.normal(size=2) for subset in every_subset(num_members)}


def _orders(num_members: int, seed: int = 0) -> list[list[list[int]]]:
    return random_orders(num_members, torch.Generator().manual_seed(seed))


def _exact(game: Game, num_members: int) -> Floats:
    subsets = list(game)
    return exact_weights(num_members, subsets) @ np.array([game[subset] for subset in subsets])


def _sampled(game: Game, groups: list[list[list[int]]]) -> Floats:
    orders = [order for group in groups for order in group]
    subsets = passed_subsets(orders)
    return order_weights(orders, subsets) @ np.array([game[subset] for subset in subsets])


def test_exact_values_are_the_mean_gain_over_all_orders() -> None:
    game = _random_game(4, seed=0)
    gains = np.zeros((24, 4, 2))
    for row, order in zip(gains, permutations(range(4)), strict=True):
        for place, member in enumerate(order):
            joined, before = order[: place + 1], order[:place]
            row[member] = game[tuple(sorted(joined))] - game[tuple(sorted(before))]

    np.testing.assert_allclose(_exact(game, 4), gains.mean(axis=0), atol=1e-12)


def test_three_members_by_hand() -> None:
    """The glove game: members 0 and 1 have a left glove each, member 2 a right one."""
    pairs = {(0, 2), (1, 2), (0, 1, 2)}
    game = {subset: np.array([float(subset in pairs)]) for subset in every_subset(3)}

    assert _exact(game, 3)[:, 0] == pytest.approx([1 / 6, 1 / 6, 4 / 6])


@settings(max_examples=25, deadline=None)
@given(num_members=st.integers(1, 7), seed=st.integers(0, 1000))
def test_values_sum_to_what_all_are_worth_more_than_none(num_members: int, seed: int) -> None:
    game = _random_game(num_members, seed)
    total = game[tuple(range(num_members))] - game[()]

    sampled = _sampled(game, _orders(num_members, seed)[:2])

    np.testing.assert_allclose(_exact(game, num_members).sum(axis=0), total, atol=1e-9)
    np.testing.assert_allclose(sampled.sum(axis=0), total, atol=1e-9)


@pytest.mark.parametrize("kind", ["exact", "sampled"])
def test_a_member_that_never_matters_is_worth_nothing(kind: str) -> None:
    others = _random_game(4, seed=1)
    game = {subset: others[tuple(m for m in subset if m != 4)] for subset in every_subset(5)}

    values = _exact(game, 5) if kind == "exact" else _sampled(game, _orders(5))

    assert values[4] == pytest.approx([0, 0], abs=1e-12)


def test_members_that_can_stand_in_for_each_other_are_worth_the_same() -> None:
    generator = np.random.default_rng(2)
    worth = generator.normal(size=(3, 3, 1))  # by how many of the two twins, and of the two others
    game = {
        subset: worth[len({0, 1} & {*subset}), len({2, 3} & {*subset})]
        for subset in every_subset(4)
    }

    values = _exact(game, 4)[:, 0]

    assert values[0] == pytest.approx(values[1])
    assert values[2] == pytest.approx(values[3])


def test_where_gains_do_not_depend_on_others_orders_leave_no_error() -> None:
    own = np.arange(9.0)[:, None]
    game = {subset: own[list(subset)].sum(axis=0) for subset in every_subset(9)}

    np.testing.assert_allclose(_sampled(game, _orders(9)), own, atol=1e-12)
    np.testing.assert_allclose(order_errors(_orders(9), game), np.zeros((9, 1)), atol=1e-12)


@pytest.mark.parametrize("num_members", [2, 9, 16])
def test_orders_are_latin_squares(num_members: int) -> None:
    squares = _orders(num_members)

    assert len(squares) >= 2
    for square in squares:
        members = np.sort(np.array(square), axis=0)
        assert (members == np.arange(num_members)[:, None]).all()


def test_of_many_members_orders_are_drawn_one_by_one_and_are_fewer() -> None:
    groups = _orders(40)

    assert [len(group) for group in groups] == [1] * 12
    assert all(sorted(order) == list(range(40)) for (order,) in groups)
    assert len({tuple(order) for (order,) in groups}) == 12


def test_errors_say_how_far_sampled_values_are_from_exact_ones() -> None:
    game = _random_game(9, seed=3)
    exact = _exact(game, 9)
    ratios = []
    for seed in range(8):
        groups = _orders(9, seed)[:2]
        ratios.append((_sampled(game, groups) - exact) / order_errors(groups, game))

    assert 0.7 < np.sqrt((np.array(ratios) ** 2).mean()) < 1.6


def test_equal_seeds_give_equal_orders() -> None:
    assert _orders(9, seed=5) == _orders(9, seed=5)
    assert _orders(9, seed=5) != _orders(9, seed=6)
