from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.merging.methods.karcher import karcher
from stockpot.merging.methods.slerp import slerp

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3)]


def _random(shape: tuple[int, ...], num_models: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(17)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def _unit(tensor: Tensor) -> Tensor:
    return tensor / torch.linalg.vector_norm(tensor)


def test_karcher_of_points_on_a_circle_has_the_mean_angle() -> None:
    angles = torch.tensor([0.0, 30.0, 90.0]).deg2rad()
    lengths = torch.tensor([1.0, 2.0, 6.0])
    tensors = list(torch.stack([angles.cos(), angles.sin()], dim=1) * lengths[:, None])

    merged = karcher(tensors, [1, 1, 1])

    expected = torch.tensor([math.cos(math.radians(40)), math.sin(math.radians(40))]) * 3
    torch.testing.assert_close(merged, expected)


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_karcher_of_two_models_is_slerp_of_their_directions(share: float) -> None:
    first, second = _random((200,), 2)

    merged = karcher([first, second], [1 - share, share])

    torch.testing.assert_close(_unit(merged), slerp([_unit(first), _unit(second)], t=share))
    length = (1 - share) * torch.linalg.vector_norm(first) + share * torch.linalg.vector_norm(
        second
    )
    torch.testing.assert_close(torch.linalg.vector_norm(merged), length)


@given(shares=st.lists(st.floats(0.05, 5), min_size=3, max_size=6), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_at_the_mean_the_ways_to_the_models_balance(shares: list[float], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(50, generator=generator, dtype=torch.float64)
    tensors = [common + torch.randn(50, generator=generator, dtype=torch.float64) for _ in shares]

    mean = _unit(karcher(tensors, shares, max_iter=100, tol=1e-8))

    balance = torch.zeros(50, dtype=torch.float64)
    for tensor, share in zip(tensors, shares, strict=True):
        unit = _unit(tensor)
        angle = torch.arccos(mean @ unit)
        balance += share / sum(shares) * angle / angle.sin() * (unit - angle.cos() * mean)
    torch.testing.assert_close(balance, torch.zeros_like(balance), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_karcher_of_copies_is_the_model(shape: tuple[int, ...]) -> None:
    [tensor] = _random(shape, 1)

    merged = karcher([tensor] * 3, [0.2, 0.5, 0.9])

    torch.testing.assert_close(merged, tensor)


def test_a_model_with_coefficient_zero_has_no_say() -> None:
    tensors = _random((30,))

    merged = karcher(tensors, [1, 2, 0])

    torch.testing.assert_close(merged, karcher(tensors[:2], [1, 2]))


def test_a_vector_of_zeros_only_shortens_the_mean() -> None:
    tensors = _random((30,), 2)

    merged = karcher([*tensors, torch.zeros(30)], [1, 3, 4])

    torch.testing.assert_close(merged, karcher(tensors, [1, 3]) / 2)


@pytest.mark.parametrize("size", [1e-12, 1e-38])
def test_small_vectors_are_as_good_as_large_ones(size: float) -> None:
    tensors = _random((40,))

    merged = karcher([tensor * size for tensor in tensors], [1, 2, 3])

    torch.testing.assert_close(merged / size, karcher(tensors, [1, 2, 3]), rtol=1e-4, atol=1e-4)


def test_more_steps_come_nearer_to_the_mean() -> None:
    tensors = [torch.tensor(x) for x in ([1.0, 0.0, 0.1], [0.0, 1.0, 0.1], [-1.0, 0.2, 0.5])]
    exact = karcher(tensors, [1, 1, 1], max_iter=200, tol=1e-9)

    distances = [
        float(torch.linalg.vector_norm(karcher(tensors, [1, 1, 1], max_iter=n) - exact))
        for n in (1, 3, 10)
    ]

    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-3


def test_two_opposite_vectors_are_averaged() -> None:
    [tensor] = _random((50,), 1)

    merged = karcher([tensor, -3 * tensor], [0.75, 0.25])

    torch.testing.assert_close(merged, torch.zeros(50), rtol=0, atol=1e-6)


def test_a_model_opposite_to_the_mean_of_the_others_does_not_pull() -> None:
    [tensor] = _random((50,), 1)

    merged = karcher([tensor, tensor, -tensor], [1, 1, 1])

    torch.testing.assert_close(merged, tensor)


def test_more_directions_that_cancel_are_refused() -> None:
    tensors = [torch.tensor([1.0, 0.0]), torch.tensor([-2.0, 0.0]), torch.zeros(2)]

    with pytest.raises(ValueError, match="karcher: directions of the models must not cancel"):
        karcher(tensors, [1, 1, 1])


def test_a_tensor_of_one_entry_is_averaged() -> None:
    merged = karcher([torch.tensor(5.0), torch.tensor(-1.0)], [1, 3])

    assert torch.equal(merged, torch.tensor(0.5))


def test_a_negative_coefficient_is_refused() -> None:
    with pytest.raises(ValueError, match="karcher: coefficients must be at least 0, got"):
        karcher(_random((3,)), [1.0, 1.0, -0.5])


@pytest.mark.parametrize(
    ("options", "rule"),
    [({"max_iter": 0}, "max_iter must be at least 1"), ({"tol": 0.0}, "tol must be above 0")],
)
def test_options_out_of_range_are_refused(options: dict[str, float], rule: str) -> None:
    with pytest.raises(ValueError, match=f"karcher: {rule}, got 0"):
        karcher(_random((3,)), [1, 1, 1], **options)
