from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stockpot.merging.methods.nuslerp import nuslerp, nuslerp_rows
from stockpot.merging.methods.slerp import slerp
from stockpot.merging.registry import METHODS

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3)]


def _random(shape: tuple[int, ...], num_models: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(11)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nuslerp_without_a_base_is_slerp_by_the_second_share(shape: tuple[int, ...]) -> None:
    tensors = _random(shape)

    merged = nuslerp(tensors, [1.5, 0.5])

    torch.testing.assert_close(merged, slerp(tensors, t=0.25))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nuslerp_with_a_base_is_slerp_of_the_task_vectors(shape: tuple[int, ...]) -> None:
    first, second, base = _random(shape, 3)

    merged = nuslerp([first, second], [0.4, 0.6], base)

    torch.testing.assert_close(merged, base + slerp([first - base, second - base], t=0.6))


@pytest.mark.parametrize("name", ["nuslerp", "nuslerp_rows", "multislerp"])
def test_the_base_is_used_if_there_is_one(name: str) -> None:
    *tensors, base = _random((3, 5), 3)
    method = METHODS[name]

    of_weights = method(tensors, [0.4, 0.6])
    of_task_vectors = method(tensors, [0.4, 0.6], base)

    assert method.takes_base
    assert not method.needs_base
    assert torch.equal(of_weights, method.merge(tensors, [0.4, 0.6]))
    assert torch.equal(of_task_vectors, method.merge(tensors, [0.4, 0.6], base))
    assert not torch.allclose(of_weights, of_task_vectors)


def test_nuslerp_of_a_case_computed_by_hand() -> None:
    base = torch.tensor([10.0, 20.0])

    merged = nuslerp([torch.tensor([12.0, 20.0]), torch.tensor([10.0, 22.0])], [1, 1], base)

    torch.testing.assert_close(merged, base + math.sqrt(2))


@pytest.mark.parametrize("merge", [nuslerp, nuslerp_rows])
def test_beside_a_model_equal_to_the_base_the_other_is_scaled(merge: Callable[..., Tensor]) -> None:
    tensor, base = _random((3, 5))

    merged = merge([base, tensor], [0.75, 0.25], base)

    torch.testing.assert_close(merged, base + 0.25 * (tensor - base))


def test_opposite_task_vectors_are_merged_on_the_line_between_them() -> None:
    tensor, base = _random((1000,))

    merged = nuslerp([tensor, 2 * base - tensor], [0.7, 0.3], base)

    torch.testing.assert_close(merged, base + 0.4 * (tensor - base), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 3, 3), (300, 700)], ids=str)
@pytest.mark.parametrize("has_base", [False, True])
def test_nuslerp_rows_is_slerp_of_each_output_unit(shape: tuple[int, ...], has_base: bool) -> None:
    first, second, other = _random(shape, 3)
    base = other if has_base else torch.zeros(shape)

    merged = nuslerp_rows([first, second], [0.4, 0.6], other if has_base else None)

    units = zip(first - base, second - base, strict=True)
    torch.testing.assert_close(merged, base + torch.stack([slerp(pair, t=0.6) for pair in units]))


@pytest.mark.parametrize("shape", [(), (1,), (64,)], ids=str)
def test_a_tensor_of_one_axis_is_one_vector(shape: tuple[int, ...]) -> None:
    tensors = _random(shape)

    merged = nuslerp_rows(tensors, [0.4, 0.6])

    assert torch.equal(merged, nuslerp(tensors, [0.4, 0.6]))


def test_each_row_on_a_line_is_linear_and_the_others_are_not() -> None:
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    second = torch.tensor([[0.0, 1.0], [-3.0, 0.0], [0.0, 4.0]])

    merged = nuslerp_rows([first, second], [0.5, 0.5])

    half = math.sqrt(0.5)
    torch.testing.assert_close(merged, torch.tensor([[half, half], [-1.0, 0.0], [0.0, 2.0]]))


@pytest.mark.parametrize("merge", [nuslerp, nuslerp_rows])
def test_coefficients_without_a_share_are_refused(merge: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match=r"^nuslerp(_rows)?: coefficients must not sum to 0, got"):
        merge(_random((3,)), [1.0, -1.0])
