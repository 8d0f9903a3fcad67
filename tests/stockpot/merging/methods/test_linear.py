from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.merging.methods.linear import linear
from stockpot.merging.registry import METHODS

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3)]

values = st.floats(-1e3, 1e3, width=32)
shares = st.floats(0.01, 10)


@st.composite
def models(draw: Any, max_models: int = 6) -> tuple[list[Tensor], list[float]]:
    num_models = draw(st.integers(1, max_models))
    size = draw(st.integers(0, 20))
    rows = [draw(st.lists(values, min_size=size, max_size=size)) for _ in range(num_models)]
    coefficients = draw(st.lists(shares, min_size=num_models, max_size=num_models))
    return [torch.tensor(row) for row in rows], coefficients


def _random(shape: tuple[int, ...], num_models: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_linear_of_a_case_computed_by_hand() -> None:
    tensors = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, -2.0]), torch.tensor([0.0, 8.0])]

    merged = linear(tensors, [1.0, 2.0, 1.0])

    assert torch.equal(merged, torch.tensor([1.75, 1.5]))


@pytest.mark.parametrize("coefficient", [1.0, 0.7, -2.1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_linear_of_one_model_is_that_model_bit_for_bit(
    shape: tuple[int, ...], coefficient: float
) -> None:
    [tensor] = _random(shape, 1)

    assert torch.equal(linear([tensor], [coefficient]), tensor)


@given(case=models())
@settings(max_examples=60, deadline=None)
def test_linear_of_copies_is_the_model(case: tuple[list[Tensor], list[float]]) -> None:
    tensors, coefficients = case

    merged = linear([tensors[0].clone() for _ in coefficients], coefficients)

    torch.testing.assert_close(merged, tensors[0], rtol=1e-5, atol=1e-6)


@given(case=models(), order=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_linear_does_not_depend_on_the_order(
    case: tuple[list[Tensor], list[float]], order: Any
) -> None:
    tensors, coefficients = case
    shuffled = list(zip(tensors, coefficients, strict=True))
    order.shuffle(shuffled)

    merged = linear([tensor for tensor, _ in shuffled], [share for _, share in shuffled])

    torch.testing.assert_close(merged, linear(tensors, coefficients), rtol=1e-4, atol=1e-2)


@given(case=models())
@settings(max_examples=60, deadline=None)
def test_linear_is_the_weighted_mean_in_float64(case: tuple[list[Tensor], list[float]]) -> None:
    tensors, coefficients = case
    wide = torch.stack([tensor.double() for tensor in tensors])
    weights = torch.tensor(coefficients, dtype=torch.float64)[:, None]

    expected = (weights * wide).sum(dim=0) / weights.sum()

    torch.testing.assert_close(
        linear(tensors, coefficients).double(), expected, rtol=1e-4, atol=1e-2
    )


@given(case=models())
@settings(max_examples=60, deadline=None)
def test_linear_with_positive_coefficients_stays_between_the_models(
    case: tuple[list[Tensor], list[float]],
) -> None:
    tensors, coefficients = case
    stacked = torch.stack(tensors)
    slack = 1e-5 * stacked.abs().amax(dim=0) + 1e-6

    merged = linear(tensors, coefficients)

    assert (merged >= stacked.amin(dim=0) - slack).all()
    assert (merged <= stacked.amax(dim=0) + slack).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_soup_of_a_soup_counts_by_its_members(shape: tuple[int, ...]) -> None:
    first, second, third = _random(shape, 3)

    of_all = linear([first, second, third], [1, 1, 1])
    pair = linear([first, second], [1, 1])

    torch.testing.assert_close(linear([pair, third], [2 / 3, 1 / 3]), of_all)
    assert not torch.allclose(linear([pair, third], [1, 1]), of_all)


def test_only_the_ratio_of_coefficients_counts() -> None:
    tensors = _random((64,), 3)

    merged = linear(tensors, [1.0, 2.0, 5.0])

    torch.testing.assert_close(linear(tensors, [0.125, 0.25, 0.625]), merged)


def test_coefficients_of_one_give_the_bits_of_a_running_sum() -> None:
    tensors = _random((1001,), 5)
    running = tensors[0].clone()
    for tensor in tensors[1:]:
        running += tensor

    assert torch.equal(linear(tensors, [1.0] * 5), running / 5)


@pytest.mark.parametrize("size", [1, 3, 8, 17, 1001])
def test_each_product_and_each_sum_is_rounded_on_its_own_on_every_machine(size: int) -> None:
    # A fused multiply-add rounds once, but on some machines only in the body of a loop.
    shares = np.array([0.3, 0.7, 0.11], dtype=np.float32)
    rows = [tensor.numpy() for tensor in _random((size,), 3)]

    expected = (rows[0] * shares[0] + rows[1] * shares[1]) + rows[2] * shares[2]

    merged = linear(_random((size,), 3), [float(share) for share in shares])
    assert torch.equal(merged, torch.from_numpy(expected / np.float32(shares.astype(float).sum())))


def test_a_negative_coefficient_subtracts() -> None:
    merged = linear([torch.tensor([3.0]), torch.tensor([1.0])], [2.0, -1.0])

    assert torch.equal(merged, torch.tensor([5.0]))


@pytest.mark.parametrize("coefficients", [[0.0, 0.0], [1.0, -1.0]])
def test_coefficients_that_sum_to_zero_are_refused(coefficients: list[float]) -> None:
    with pytest.raises(ValueError, match="linear: coefficients must not sum to 0, got"):
        linear(_random((3,), 2), coefficients)


def test_another_number_of_coefficients_than_models_is_refused() -> None:
    with pytest.raises(ValueError, match=r"zip\(\)"):
        linear(_random((3,), 2), [1.0, 1.0, 1.0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_averaged_in_float32(dtype: torch.dtype) -> None:
    stored = [tensor.to(dtype) for tensor in _random((1001,), 3)]

    merged = linear(stored, [0.3, -0.2, 0.7])

    assert merged.dtype == torch.float32
    assert torch.equal(merged, linear([tensor.float() for tensor in stored], [0.3, -0.2, 0.7]))


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_a_value_that_is_not_finite_is_seen_in_a_sum_also_at_coefficient_0(value: float) -> None:
    sums = [method for method in METHODS.values() if method.is_sum]
    assert sums
    for method in sums:
        tensors = _random((64,), 3)
        tensors[1][17] = value

        assert not method(tensors, [0.5, 0.0, 0.5])[17].isfinite()
