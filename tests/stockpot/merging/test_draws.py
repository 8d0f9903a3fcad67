"""Random numbers by position: any part is what the whole has there."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.merging.draws import Draws


@given(start=st.integers(0, 200_000), count=st.integers(0, 200_000))
@settings(max_examples=20, deadline=None)
def test_a_part_is_drawn_as_in_the_whole(start: int, count: int) -> None:
    whole = Draws(3).uniform((400_000,))

    assert torch.equal(Draws(3).at(start).uniform((count,)), whole[start : start + count])


def test_numbers_are_spread_evenly_over_0_to_1() -> None:
    drawn = Draws(1).uniform((1000, 1000)).double()

    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = torch.histc(drawn, bins=100, min=0, max=1)
    assert (counts - 10_000).abs().max() < 5 * 100  # 5 standard deviations of a bin
    flat = drawn.flatten() - 0.5
    neighbours = (flat[1:] * flat[:-1]).mean() * 12
    assert neighbours.abs() < 5 / 1000


def test_seeds_and_blocks_have_numbers_of_their_own() -> None:
    first, second = Draws(1).uniform((2**17,)), Draws(2).uniform((2**17,))

    assert (first == second).float().mean() < 1e-4
    assert (first[: 2**16] == first[2**16 :]).float().mean() < 1e-4


def test_a_scalar_and_an_empty_tensor_are_drawn() -> None:
    assert Draws(1).uniform(()).shape == ()
    assert Draws(1).uniform((0, 3)).shape == (0, 3)
