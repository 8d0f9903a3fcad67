from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from stockpot.merging.methods.model_stock import model_stock


def _random(shape: tuple[int, ...], num_models: int, seed: int = 7) -> list[Tensor]:
    generator = Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_model_stock_of_a_case_computed_by_hand() -> None:
    base = torch.tensor([1.0, 1.0])
    # Cosines of pairs: 0.6, 0, 0.8, so c = 7/15 and t = (3 * 7/15) / (1 + 2 * 7/15) = 21/29.
    tensors = [base + torch.tensor(row) for row in ([1.0, 0.0], [3.0, 4.0], [0.0, 2.0])]

    merged = model_stock(tensors, base)

    torch.testing.assert_close(merged, 1 + 21 / 29 * torch.tensor([4 / 3, 2.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=st.integers(0, 200), num_models=st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_the_ratio_is_that_of_the_mean_cosine_over_pairs(
    seed: int, num_models: int, dtype: torch.dtype
) -> None:
    base, shared, *own = (t.to(dtype) for t in _random((3, 4), num_models + 2, seed))
    tensors = [base + shared + 0.5 * t for t in own]
    flat = [(t - base).flatten().double() for t in tensors]
    cosines = [
        float(torch.cosine_similarity(a, b, dim=0)) for i, a in enumerate(flat) for b in flat[:i]
    ]
    cosine = max(0.0, sum(cosines) / len(cosines))
    ratio = num_models * cosine / (1 + (num_models - 1) * cosine)

    merged = model_stock(tensors, base)

    mean = torch.stack(tensors).mean(dim=0)
    torch.testing.assert_close(merged, ratio * mean + (1 - ratio) * base, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1.0, 1e-4, 1e-12])
@pytest.mark.parametrize("num_models", [2, 3])
def test_equal_models_give_that_model_however_near_the_base(num_models: int, length: float) -> None:
    base = torch.zeros(4)
    tensor = length * torch.tensor([1.0, -2.0, 0.5, 3.0])

    merged = model_stock([tensor] * num_models, base)

    torch.testing.assert_close(merged, tensor, rtol=1e-6, atol=0)


def test_orthogonal_task_vectors_give_the_base() -> None:
    base = torch.tensor([2.0, 3.0, 5.0])

    merged = model_stock([base + row for row in torch.eye(3)], base)

    torch.testing.assert_close(merged, base, rtol=1e-12, atol=0)


@pytest.mark.parametrize("angle", [100, 120, 180])
def test_models_that_point_away_from_each_other_give_the_base(angle: int) -> None:
    base, radians = torch.ones(2), math.radians(angle)
    turned = torch.tensor([math.cos(radians), math.sin(radians)])

    merged = model_stock([base + torch.tensor([1.0, 0.0]), base + turned], base)

    assert torch.equal(merged, base)


@pytest.mark.parametrize("filter_wise", [False, True])
def test_a_tensor_that_no_model_changed_stays_bit_for_bit(filter_wise: bool) -> None:
    [base] = _random((3, 5), 1)

    merged = model_stock([base.clone() for _ in range(3)], base, filter_wise=filter_wise)

    assert torch.equal(merged, base)


def test_entries_that_no_model_changed_stay_bit_for_bit() -> None:
    base, *tensors = _random((101,), 4)
    for tensor in tensors:
        tensor[50:] = base[50:]
        tensor[:50].abs_().add_(base[:50])

    merged = model_stock(tensors, base)

    assert torch.equal(merged[50:], base[50:])
    assert not torch.isclose(merged[:50], base[:50]).any()


def test_a_row_of_its_own_is_merged_as_a_tensor_of_its_own() -> None:
    base, shared, *own = _random((4, 3, 3), 5)
    tensors = [base + shared + tensor for tensor in own]

    merged = model_stock(tensors, base, filter_wise=True)

    rows = [model_stock([t[row] for t in tensors], base[row]) for row in range(4)]
    torch.testing.assert_close(merged, torch.stack(rows))
    assert not torch.allclose(merged, model_stock(tensors, base))


@pytest.mark.parametrize("shape", [(), (1,), (7,)], ids=str)
def test_a_tensor_of_one_dimension_is_one_row(shape: tuple[int, ...]) -> None:
    base, *tensors = _random(shape, 4)

    merged = model_stock(tensors, base, filter_wise=True)

    assert torch.equal(merged, model_stock(tensors, base))


def test_a_model_equal_to_the_base_is_orthogonal_to_the_others() -> None:
    base, task_vector = torch.ones(5), torch.arange(1.0, 6.0)

    merged = model_stock([base + task_vector, base, base + task_vector], base)

    # c = 1/3, so t = 1 / (1 + 2/3), of a mean of two thirds.
    torch.testing.assert_close(merged, base + 3 / 5 * 2 / 3 * task_vector)
