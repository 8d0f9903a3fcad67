from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.task_arithmetic import task_arithmetic

SHAPES = [(), (1,), (7,), (3, 5), (2, 3, 3, 3)]


def _random(shape: tuple[int, ...], num_models: int) -> list[Tensor]:
    generator = Generator().manual_seed(7)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_task_arithmetic_of_a_case_computed_by_hand() -> None:
    base = torch.tensor([1.0, 2.0])
    tensors = [torch.tensor([2.0, 0.0]), torch.tensor([1.0, 6.0])]

    merged = task_arithmetic(tensors, base, [1.0, 0.5], scale=0.5)

    assert merged.tolist() == [1.5, 2.0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("coefficient", "scale"), [(1.0, 1.0), (0.5, 2.0), (-1.0, -1.0)])
def test_one_model_added_once_is_that_model_bit_for_bit(
    shape: tuple[int, ...], coefficient: float, scale: float
) -> None:
    base, tensor = _random(shape, 2)
    base *= 1e6

    assert torch.equal(task_arithmetic([tensor], base, [coefficient], scale=scale), tensor)


@pytest.mark.parametrize("coefficient", [3.0, 49.0, 0.7, -2.1])
def test_one_model_with_normalised_coefficient_is_that_model_bit_for_bit(
    coefficient: float,
) -> None:
    base, tensor = _random((64,), 2)

    assert torch.equal(task_arithmetic([tensor], base, [coefficient], normalize=True), tensor)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_coefficients_of_one_model_alone_give_that_model(shape: tuple[int, ...]) -> None:
    base, *tensors = _random(shape, 4)

    torch.testing.assert_close(task_arithmetic(tensors, base, [0.0, 1.0, 0.0]), tensors[1])


@given(coefficients=st.lists(st.floats(0.01, 10), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_mean_of_task_vectors_is_the_mean_of_models(coefficients: list[float]) -> None:
    base, *tensors = _random((20,), len(coefficients) + 1)

    merged = task_arithmetic(tensors, base, coefficients, normalize=True)

    torch.testing.assert_close(merged, linear(tensors, coefficients), rtol=1e-4, atol=1e-5)


@given(scale=st.floats(-2, 2))
@settings(max_examples=50, deadline=None)
def test_task_arithmetic_is_linear_in_the_scale(scale: float) -> None:
    base, *tensors = (tensor.double() for tensor in _random((20,), 4))
    coefficients = [0.3, 1.0, -0.4]

    merged = task_arithmetic(tensors, base, coefficients, scale=scale)

    whole = task_arithmetic(tensors, base, coefficients)
    torch.testing.assert_close(merged, base + scale * (whole - base))


def test_a_negative_coefficient_moves_away_from_the_model() -> None:
    merged = task_arithmetic([torch.tensor([3.0])], torch.tensor([1.0]), [-0.5])

    assert merged.tolist() == [0.0]


def test_coefficients_to_normalise_must_not_sum_to_0() -> None:
    base, *tensors = _random((3,), 3)

    with pytest.raises(ValueError, match="task_arithmetic: coefficients must not sum to 0, got"):
        task_arithmetic(tensors, base, [1.0, -1.0], normalize=True)


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_not_finite_is_refused(scale: float) -> None:
    base, tensor = _random((3,), 2)

    with pytest.raises(ValueError, match="task_arithmetic: scale must be finite, got"):
        task_arithmetic([tensor], base, [1.0], scale=scale)
