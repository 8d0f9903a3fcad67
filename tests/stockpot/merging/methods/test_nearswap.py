from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.merging.methods.nearswap import nearswap

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3)]


def _random(shape: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(29)
    return [torch.randn(shape, generator=generator) for _ in range(2)]


def test_nearswap_of_a_case_computed_by_hand() -> None:
    tensors = [torch.tensor([0.0, 0.0, 1.0, 5.0]), torch.tensor([4.0, 0.5, -1.0, 5.0])]

    merged = nearswap(tensors, t=1.0)

    assert merged.tolist() == [1.0, 0.5, 0.0, 5.0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_ends_of_nearswap_are_the_models_bit_for_bit(shape: tuple[int, ...]) -> None:
    first, second = _random(shape)

    assert torch.equal(nearswap([first, second], t=0), first)
    assert torch.equal(nearswap([first, second], t=1e9), second)
    assert torch.equal(nearswap([first, second], t=math.inf), second)


@given(t=st.floats(0, 5))
@settings(max_examples=40, deadline=None)
def test_every_entry_moves_by_t_but_not_beyond_the_second_model(t: float) -> None:
    first, second = _random((64,))

    merged = nearswap([first, second], t=t)

    moved = (second - first).clamp(-t, t)
    torch.testing.assert_close(merged, first + moved, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("t", [-1e-9, float("nan")])
def test_a_negative_t_is_refused(t: float) -> None:
    with pytest.raises(ValueError, match="nearswap: t must be at least 0, got"):
        nearswap(_random((3,)), t=t)
