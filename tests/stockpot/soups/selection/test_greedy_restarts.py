"""The mean of greedy soups over orders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from point_soups import PointSoups

from stockpot.soups.selection.candidates import Selection
from stockpot.soups.selection.greedy import greedy
from stockpot.soups.selection.greedy_restarts import greedy_restarts

points = st.lists(st.floats(-20, 20), min_size=1, max_size=7)


@given(points=points, aims=st.lists(st.floats(-20, 20), min_size=1, max_size=3))
def test_the_first_order_is_that_of_greedy(points: list[float], aims: list[float]) -> None:
    candidates = PointSoups(points, aims).candidates()

    assert [*greedy_restarts(candidates, orders=1).members] == greedy(candidates).members


def test_shares_are_means_over_the_orders() -> None:
    # Best first, 0 is alone; from 10 on, 0 is added: each has one half.
    chosen = greedy_restarts(PointSoups([0.0, 10.0], aims=[0.0]).candidates(), orders=20)

    shares = dict(zip(chosen.members, chosen.coefficients, strict=True))
    num_from_the_worse = 40 * shares[1]
    assert 0 < num_from_the_worse < 20
    assert num_from_the_worse == pytest.approx(round(num_from_the_worse))
    assert shares[0] == pytest.approx(1 - shares[1])


def test_orders_that_agree_give_a_soup_without_coefficients() -> None:
    soups = PointSoups([0.0, 2.0], aims=[1.0])

    assert greedy_restarts(soups.candidates(), orders=3) == Selection([0, 1])


def test_orders_depend_on_the_seed_alone() -> None:
    soups = PointSoups([0.0, 1.0, 4.0, -3.0, 7.0], aims=[0.4])

    def chosen(seed: int) -> Selection:
        return greedy_restarts(soups.candidates(seed), orders=3)

    assert chosen(1) == chosen(1)
    assert len({tuple(chosen(seed).coefficients) for seed in range(5)}) > 1
