from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.task_arithmetic import task_arithmetic
from stockpot.merging.methods.wise_ft import wise_ft

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3)]


def _random(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(23)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def test_wise_ft_of_a_case_computed_by_hand() -> None:
    merged = wise_ft([torch.tensor([4.0, 0.0])], torch.tensor([0.0, 8.0]), alpha=0.25)

    assert merged.tolist() == [1.0, 6.0]


def test_wise_ft_goes_half_way_by_default() -> None:
    merged = wise_ft([torch.tensor(4.0)], torch.tensor(2.0))

    assert merged.item() == 3.0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_ends_of_wise_ft_are_the_models_bit_for_bit(shape: tuple[int, ...]) -> None:
    tensor, base = _random(shape)

    assert torch.equal(wise_ft([tensor], base, alpha=0), base)
    assert torch.equal(wise_ft([tensor], base, alpha=1), tensor)


@given(alpha=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_wise_ft_is_linear_and_task_arithmetic_of_one_model(alpha: float) -> None:
    tensor, base = _random((64,))

    merged = wise_ft([tensor], base, alpha=alpha)

    torch.testing.assert_close(merged, linear([base, tensor], [1 - alpha, alpha]))
    torch.testing.assert_close(merged, task_arithmetic([tensor], base, [1.0], scale=alpha))


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.7])
def test_what_the_model_did_not_change_stays_bit_for_bit(alpha: float) -> None:
    base, _ = _random((1000,))

    merged = wise_ft([base.clone()], base, alpha=alpha)

    assert torch.equal(merged, base)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_alpha_beyond_the_models_is_refused(alpha: float) -> None:
    tensor, base = _random((3,))

    with pytest.raises(ValueError, match=r"wise_ft: alpha must be in \[0, 1\], got"):
        wise_ft([tensor], base, alpha=alpha)
