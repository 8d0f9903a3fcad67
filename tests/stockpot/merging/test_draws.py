"""Decisions at random by position: any part is what the whole has there."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.merging.draws import Draws


def _kept(draws: Draws, probability: float | Tensor, size: int) -> Tensor:
    return draws.kept(probability, torch.empty(size))


@given(start=st.integers(0, 600_000), count=st.integers(0, 300_000), probability=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_a_part_is_drawn_as_in_the_whole(start: int, count: int, probability: float) -> None:
    whole = _kept(Draws(3), probability, 900_000)

    part = _kept(Draws(3).at(start), probability, count)

    assert torch.equal(part, whole[start : start + count])


@pytest.mark.parametrize("probability", [0.5, 0.1, 0.9, 1 / 3, 2**-17, 1.5 * 2**-16])
def test_as_many_are_kept_as_the_probability_says(probability: float) -> None:
    size = 4_000_000

    kept = _kept(Draws(1), probability, size)

    assert set(kept.unique().tolist()) <= {0.0, 1.0}
    deviation = (size * probability * (1 - probability)) ** 0.5
    assert abs(float(kept.double().sum()) - size * probability) < 5 * deviation


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_0_keeps_none_and_1_keeps_all(probability: float) -> None:
    assert (_kept(Draws(2), probability, 300_000) == probability).all()


def test_one_probability_for_all_is_the_same_as_that_for_each() -> None:
    size, probability = 1_000_000, 0.3  # some of the 16 leading bits do not decide

    assert torch.equal(
        _kept(Draws(4), torch.full((size,), probability, dtype=torch.float64), size),
        _kept(Draws(4), probability, size),
    )


def test_entries_seeds_and_blocks_are_independent() -> None:
    first, second = (_kept(Draws(seed), 0.5, 2**19) - 0.5 for seed in (1, 2))

    for other in (second, first.roll(1), first.roll(2**18)):
        assert abs(float((first * other).mean() * 4)) < 5 / 2**9.5


def test_a_scalar_and_an_empty_tensor_are_drawn() -> None:
    assert Draws(1).kept(1.0, torch.empty(())).shape == ()
    assert Draws(1).kept(0.5, torch.empty(0, 3)).shape == (0, 3)
    assert Draws(1).kept(0.5, torch.empty(2, dtype=torch.float64)).dtype == torch.float64
