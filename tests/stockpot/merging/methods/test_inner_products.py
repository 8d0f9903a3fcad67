from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stockpot.merging.methods.inner_products import gram, row_dots


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(19))


def test_gram_of_a_case_computed_by_hand() -> None:
    products = gram([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])])

    assert products.dtype == torch.float64
    assert products.tolist() == [[5.0, 1.0], [1.0, 10.0]]


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 200_000])
def test_gram_does_not_lose_the_ends_of_blocks(size: int) -> None:
    tensors = _random(3, size)

    products = gram(list(tensors))

    torch.testing.assert_close(products, tensors.double() @ tensors.double().T)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3)], ids=str)
def test_gram_takes_tensors_without_axes_or_entries(shape: tuple[int, ...]) -> None:
    tensors = [torch.full(shape, 2.0), torch.full(shape, 3.0)]

    products = gram(tensors)

    num_entries = tensors[0].numel()
    assert (products / torch.tensor([[4.0, 6.0], [6.0, 9.0]])).tolist() == [[num_entries] * 2] * 2


@pytest.mark.parametrize("shape", [(3, 5), (300, 700), (3, 70_000), (5, 0), (0, 5)], ids=str)
def test_row_dots_are_those_of_each_row_in_float64(shape: tuple[int, int]) -> None:
    first, second = _random(2, *shape)

    dots = row_dots(first, second)

    torch.testing.assert_close(dots, (first.double() * second.double()).sum(dim=1))
