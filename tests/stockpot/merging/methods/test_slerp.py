from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.merging.methods.slerp import slerp

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3)]


def _random(shape: tuple[int, ...], num_models: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_slerp_half_way_between_orthogonal_vectors_is_their_sum_over_root_two() -> None:
    tensors = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])]

    merged = slerp(tensors, t=0.5)

    torch.testing.assert_close(merged, torch.tensor([math.sqrt(0.5), math.sqrt(0.5)]))


def test_slerp_of_vectors_of_unlike_length_computed_by_hand() -> None:
    # 60 degrees apart, a third of the way: sin(40) / sin(60) and sin(20) / sin(60).
    tensors = [torch.tensor([2.0, 0.0]), torch.tensor([0.5, math.sqrt(0.75)])]
    of_first, of_second = (math.sin(math.radians(x)) / math.sin(math.pi / 3) for x in (40, 20))

    merged = slerp(tensors, t=1 / 3)

    expected = torch.tensor([2 * of_first + 0.5 * of_second, math.sqrt(0.75) * of_second])
    torch.testing.assert_close(merged, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_ends_of_slerp_are_the_models_bit_for_bit(shape: tuple[int, ...]) -> None:
    tensors = _random(shape)

    assert torch.equal(slerp(tensors, t=0), tensors[0])
    assert torch.equal(slerp(tensors, t=1), tensors[1])


@given(t=st.floats(0, 1), size=st.integers(2, 200_000), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_slerp_of_vectors_of_one_length_keeps_it_and_turns_by_a_share_of_the_angle(
    t: float, size: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    pair = torch.randn((2, size), generator=generator, dtype=torch.float64)
    start, end = pair / torch.linalg.vector_norm(pair, dim=1, keepdim=True)
    cosine = float(start @ end)
    assume(abs(cosine) < 0.999)

    merged = slerp([start, end], t=t)

    assert float(merged @ merged) == pytest.approx(1)
    assert float(merged @ start) == pytest.approx(math.cos(t * math.acos(cosine)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_slerp_from_the_other_end_is_the_same(shape: tuple[int, ...]) -> None:
    first, second = _random(shape)

    merged = slerp([second, first], t=0.7)

    torch.testing.assert_close(merged, slerp([first, second], t=0.3))


@pytest.mark.parametrize("factor", [2.0, -0.5, -1.0, 0.0])
def test_slerp_of_vectors_on_one_line_is_linear(factor: float) -> None:
    [tensor] = _random((50,), 1)

    merged = slerp([tensor, factor * tensor], t=0.25)

    torch.testing.assert_close(merged, 0.75 * tensor + 0.25 * factor * tensor)


def test_slerp_of_nearly_opposite_vectors_is_linear() -> None:
    first, noise = _random((1000,))
    second = -first + 1e-3 * noise

    merged = slerp([first, second], t=0.3)

    torch.testing.assert_close(merged, 0.7 * first + 0.3 * second)


def test_inner_products_of_slerp_are_in_float64() -> None:
    first, second = _random((1000,))
    in_float32 = torch.dot(first * 1e25, second * 1e25)

    merged = slerp([first * 1e25, second * 1e25], t=0.4)

    assert not torch.isfinite(in_float32)
    torch.testing.assert_close(merged / 1e25, slerp([first, second], t=0.4))


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_a_t_outside_the_way_is_refused(t: float) -> None:
    with pytest.raises(ValueError, match=r"slerp: t must be in \[0, 1\], got"):
        slerp(_random((3,)), t=t)
