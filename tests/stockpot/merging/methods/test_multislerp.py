from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.multislerp import multislerp

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3)]


def _random(shape: tuple[int, ...], num_models: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(13)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_multislerp_of_a_case_computed_by_hand() -> None:
    # Directions (1, 0) and (0, 1) with shares 3/4 and 1/4; the mean length is 3/4 * 2 + 1/4 * 6.
    tensors = [torch.tensor([2.0, 0.0]), torch.tensor([0.0, 6.0])]

    merged = multislerp(tensors, [3.0, 1.0])

    torch.testing.assert_close(merged, torch.tensor([3.0, 1.0]) * (3 / math.sqrt(10)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_multislerp_of_copies_is_the_model(shape: tuple[int, ...]) -> None:
    [tensor] = _random(shape, 1)

    merged = multislerp([tensor] * 3, [0.2, 0.5, 0.9])

    torch.testing.assert_close(merged, tensor)


@given(shares=st.lists(st.floats(0.1, 5), min_size=2, max_size=6), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_multislerp_points_along_the_mean_direction_and_is_as_long_as_the_mean(
    shares: list[float], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(300, generator=generator) * (k + 1) for k in range(len(shares))]
    norms = torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors])
    parts = torch.tensor(shares) / sum(shares)
    units = torch.stack(tensors) / norms[:, None]

    merged = multislerp(tensors, shares)

    direction = parts @ units
    expected = direction / torch.linalg.vector_norm(direction) * (parts @ norms)
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)


def test_multislerp_keeps_the_length_that_linear_loses() -> None:
    tensors = [tensor / torch.linalg.vector_norm(tensor) for tensor in _random((1000,))]

    merged = multislerp(tensors, [1, 1, 1])

    assert float(torch.linalg.vector_norm(merged)) == pytest.approx(1, rel=1e-5)
    assert float(torch.linalg.vector_norm(linear(tensors, [1, 1, 1]))) < 0.7


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_with_a_base_multislerp_merges_task_vectors(shape: tuple[int, ...]) -> None:
    *tensors, base = _random(shape, 4)

    merged = multislerp(tensors, [0.2, 0.3, 0.5], base)

    task_vectors = [tensor - base for tensor in tensors]
    torch.testing.assert_close(merged, base + multislerp(task_vectors, [0.2, 0.3, 0.5]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_tensor_that_no_model_changed_stays_bit_for_bit(shape: tuple[int, ...]) -> None:
    [base] = _random(shape, 1)

    merged = multislerp([base.clone() for _ in range(3)], [0.3, 0.3, 0.4], base)

    assert torch.equal(merged, base)


def test_a_vector_of_zeros_has_no_direction_but_shortens_the_mean() -> None:
    tensors = [torch.tensor([4.0, 0.0]), torch.zeros(2), torch.tensor([0.0, 4.0])]

    merged = multislerp(tensors, [1, 2, 1])

    torch.testing.assert_close(merged, torch.tensor([1.0, 1.0]) * math.sqrt(2))


def test_the_direction_of_a_short_vector_counts_in_full() -> None:
    tensors = [torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2e-9])]

    merged = multislerp(tensors, [1, 1])

    torch.testing.assert_close(merged, torch.tensor([1.0, 1.0]) / math.sqrt(2))


def test_two_opposite_vectors_are_averaged() -> None:
    [tensor] = _random((50,), 1)

    merged = multislerp([tensor, -3 * tensor], [0.5, 0.5])

    torch.testing.assert_close(merged, -tensor)


def test_more_directions_that_cancel_are_refused() -> None:
    tensors = [torch.tensor([1.0, 0.0]), torch.tensor([-2.0, 0.0]), torch.zeros(2)]

    with pytest.raises(ValueError, match="multislerp: directions of the models must not cancel"):
        multislerp(tensors, [1, 1, 1])


def test_a_tensor_of_one_entry_is_averaged() -> None:
    merged = multislerp([torch.tensor([5.0]), torch.tensor([-1.0])], [1, 3])

    assert torch.equal(merged, torch.tensor([0.5]))


@pytest.mark.parametrize("size", [1e-12, 1e-38])
def test_small_vectors_are_as_good_as_large_ones(size: float) -> None:
    tensors = _random((40,))

    merged = multislerp([tensor * size for tensor in tensors], [1, 2, 3])

    torch.testing.assert_close(merged / size, multislerp(tensors, [1, 2, 3]), rtol=1e-4, atol=1e-4)


def test_coefficients_that_sum_to_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="multislerp: coefficients must not sum to 0, got"):
        multislerp(_random((3,)), [1.0, 1.0, -2.0])
