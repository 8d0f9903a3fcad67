from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stockpot.merging.methods.task_arithmetic import task_arithmetic
from stockpot.merging.methods.weight_signatures import (
    measure_shares,
    signature_size,
    weight_signatures,
)
from stockpot.merging.runs import Runs

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3), (0, 4)]


def _random(shape: tuple[int, ...], num_models: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(67)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def _signature(corrupted: Tensor, clean: Tensor, base: Tensor | None) -> Tensor:
    """Return a signature, as what is added to a target of zeros."""
    target = torch.zeros_like(corrupted)
    return weight_signatures([target, clean, corrupted], [1.0, 1.0, 1.0], base)


def test_a_signature_computed_by_hand() -> None:
    base = torch.tensor([1.0, 1.0])
    clean = torch.tensor([3.0, 1.0])
    corrupted = torch.tensor([2.0, 5.0])

    assert _signature(corrupted, clean, base).tolist() == [0.0, 4.0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_signature_is_orthogonal_to_training_on_clean_data(shape: tuple[int, ...]) -> None:
    corrupted, clean, base, _ = _random(shape)

    signature = _signature(corrupted, clean, base)

    change = (clean - base).double()
    size = float((corrupted - base).square().sum() * change.square().sum()) ** 0.5
    assert signature.shape == shape
    assert abs(float((signature.double() * change).sum())) <= 1e-5 * size


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_corruption_that_changes_nothing_has_no_signature(shape: tuple[int, ...]) -> None:
    _, clean, base, _ = _random(shape)

    signature = _signature(clean.clone(), clean, base)

    torch.testing.assert_close(signature, torch.zeros(shape), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_of_a_frozen_tensor_the_signature_is_all_that_changed(shape: tuple[int, ...]) -> None:
    corrupted, _, base, _ = _random(shape)

    assert torch.equal(_signature(corrupted, base.clone(), base), corrupted - base)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_without_a_base_the_clean_model_becomes_the_corrupted_one(shape: tuple[int, ...]) -> None:
    corrupted, clean, *_ = _random(shape)

    patched = weight_signatures([clean, clean, corrupted], [1.0] * 3)

    torch.testing.assert_close(patched, corrupted)


@pytest.mark.parametrize("has_base", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_signatures_that_were_added_can_be_removed(shape: tuple[int, ...], has_base: bool) -> None:
    target, clean, base, *corrupted = _random(shape, 5)
    start = base if has_base else None

    patched = weight_signatures([target, clean, *corrupted], [1, 1, 0.5, 0.5], start, scale=0.7)
    removed = weight_signatures(
        [patched, clean, *corrupted], [1, 1, 0.5, 0.5], start, scale=0.7, remove=True
    )

    torch.testing.assert_close(removed, target)


def test_in_a_wider_dtype_the_removal_is_exact() -> None:
    target, clean, base, corrupted = (tensor.bfloat16() for tensor in _random((64, 64)))
    wide = [tensor.float() for tensor in (target, clean, corrupted)]

    patched = weight_signatures(wide, [1.0] * 3, base.float())
    removed = weight_signatures([patched, *wide[1:]], [1.0] * 3, base.float(), remove=True)

    assert not torch.equal(patched, wide[0])
    assert torch.equal(removed.bfloat16(), target)


def test_signatures_are_added_once_each_by_their_coefficient() -> None:
    zero = torch.zeros(2)
    corrupted = [torch.tensor([4.0, 0.0]), torch.tensor([0.0, 8.0])]

    patched = weight_signatures([torch.ones(2), zero, *corrupted], [9.0, 9.0, 0.5, -0.25], zero)

    assert patched.tolist() == [3.0, -1.0]


def test_factors_of_zero_leave_the_target_bit_for_bit() -> None:
    target, *others = _random((3, 5))
    target[0, 0] = -0.0

    for scale, coefficient in ((0.0, 1.0), (1.0, 0.0)):
        patched = weight_signatures([target, *others], [1, 1, coefficient, 0], scale=scale)

        assert torch.equal(patched, target)
        assert math.copysign(1, patched[0, 0]) == -1


def test_the_order_of_signatures_is_without_effect() -> None:
    target, clean, first, second, base = _random((64,), 5)

    patched = weight_signatures([target, clean, first, second], [1, 1, 0.3, 0.7], base)

    again = weight_signatures([target, clean, second, first], [1, 1, 0.7, 0.3], base)
    assert torch.equal(again, patched)


def test_a_change_orthogonal_to_clean_training_is_task_arithmetic() -> None:
    base = torch.zeros(4)
    clean, corrupted = torch.tensor([1.0, 2.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 3.0, -1.0])

    patched = weight_signatures([base, clean, corrupted], [1.0] * 3, base, scale=0.5)

    assert torch.equal(patched, task_arithmetic([corrupted], base, [1.0], scale=0.5))


def test_shares_and_size_computed_by_hand() -> None:
    base = torch.tensor([1.0, 1.0])
    clean = torch.tensor([3.0, 1.0])  # a = (2, 0), squared norm 10
    corrupted = [torch.tensor([2.0, 5.0]), torch.tensor([1.0, 2.0])]  # d = (1, 4), (0, 1)
    runs = Runs.of([base, clean, *corrupted], base)

    assert measure_shares(runs) == [0.5, 0.0]
    assert signature_size(runs) == pytest.approx((16 + 1) / 10)


def test_the_size_without_a_base_is_that_of_the_differences() -> None:
    clean, corrupted = torch.tensor([3.0, 1.0]), torch.tensor([2.0, 5.0])

    assert signature_size(Runs.of([clean, clean, corrupted])) == pytest.approx((1 + 16) / 10)
    assert signature_size(Runs.of([clean, clean, clean])) == 0
    assert signature_size(Runs.of([clean, torch.zeros(2), clean])) == math.inf
