from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.merging.methods.elected_sum import elected_sum
from stockpot.merging.methods.task_arithmetic import task_arithmetic
from stockpot.merging.methods.ties import ties

SHAPES = st.lists(st.integers(0, 6), max_size=3)


def _random(shape: list[int], num_models: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_elected_sum_of_a_case_computed_by_hand() -> None:
    base = torch.full((4,), 10.0)
    first = base + torch.tensor([4.0, -3.0, 0.5, 2.0])  # trimmed: 4, -3, 0, 0
    second = base + torch.tensor([-1.0, -5.0, 0.1, 6.0])  # trimmed: 0, -5, 0, 6
    third = base + torch.tensor([-9.0, 7.0, 0.2, 0.3])  # trimmed: -9, 7, 0, 0

    merged = elected_sum([first, second, third], base, [0.5, 2.0, 3.0], density=0.5)

    # Sums of what is left elect -, -, none, +, whatever the coefficients.
    assert merged.tolist() == [10.0 - 27.0, 10.0 - 1.5 - 10.0, 10.0, 10.0 + 12.0]


@settings(max_examples=40, deadline=None)
@given(
    shape=SHAPES, num_models=st.integers(1, 4), density=st.floats(0.05, 1), seed=st.integers(0, 999)
)
def test_with_equal_coefficients_it_is_the_sum_of_ties(
    shape: list[int], num_models: int, density: float, seed: int
) -> None:
    *tensors, base = _random(shape, num_models + 1, seed)
    ones = [1.0] * num_models

    merged = elected_sum(tensors, base, ones, density=density, scale=0.4)

    expected = ties(tensors, base, ones, density=density, scale=0.4, normalize=False)
    torch.testing.assert_close(merged, expected)


@settings(max_examples=40, deadline=None)
@given(
    shape=SHAPES,
    first=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    second=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    seed=st.integers(0, 999),
)
def test_the_change_is_linear_in_the_coefficients(
    shape: list[int], first: list[float], second: list[float], seed: int
) -> None:
    *tensors, base = (tensor.double() for tensor in _random(shape, 4, seed))

    def change(coefficients: list[float]) -> Tensor:
        return elected_sum(tensors, base, coefficients, density=0.5) - base

    both = change([a + b for a, b in zip(first, second, strict=True)])
    torch.testing.assert_close(both, change(first) + change(second), rtol=1e-9, atol=1e-12)


def test_where_nothing_is_trimmed_and_all_agree_it_is_task_arithmetic() -> None:
    base, *changes = (tensor.abs() for tensor in _random([3, 5], 3, seed=1))
    tensors = [base + change for change in changes]

    merged = elected_sum(tensors, base, [0.3, 0.6], density=1.0)

    torch.testing.assert_close(merged, task_arithmetic(tensors, base, [0.3, 0.6]))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"density": -0.1}, "density must be in"), ({"scope": "layer"}, "scope must be one of")],
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^elected_sum: {said}"):
        elected_sum([torch.ones(3)], torch.zeros(3), [1.0], **options)
