"""What every merge method does, whichever it is: a new one is tested by being registered."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stockpot.merging import METHODS
from stockpot.merging.registry import MergeFunction

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3)]
COEFFICIENTS = [0.5, 0.3, 0.2]

pytestmark = [
    pytest.mark.parametrize("merge", [m.merge for m in METHODS.values()], ids=[*METHODS]),
    pytest.mark.parametrize("shape", SHAPES, ids=str),
]


def _tensors(shape: tuple[int, ...], num_models: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(len(shape))
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_kept(
    merge: MergeFunction, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    tensors = [tensor.to(dtype) for tensor in _tensors(shape)]

    merged = merge(tensors, COEFFICIENTS)

    assert merged.shape == shape
    assert merged.dtype == dtype
    assert torch.isfinite(merged).all()


def test_inputs_stay_as_they_are(merge: MergeFunction, shape: tuple[int, ...]) -> None:
    tensors = _tensors(shape)
    copies = [tensor.clone() for tensor in tensors]

    merged = merge(tensors, COEFFICIENTS)
    merged += 1

    assert all(torch.equal(tensor, copy) for tensor, copy in zip(tensors, copies, strict=True))


def test_equal_models_give_that_model(merge: MergeFunction, shape: tuple[int, ...]) -> None:
    tensor = _tensors(shape)[0]

    merged = merge([tensor, tensor.clone(), tensor.clone()], COEFFICIENTS)

    torch.testing.assert_close(merged, tensor)


def test_the_order_of_models_changes_nothing(merge: MergeFunction, shape: tuple[int, ...]) -> None:
    tensors = _tensors(shape)

    merged = merge(tensors, COEFFICIENTS)
    turned = merge([tensors[2], tensors[0], tensors[1]], [0.2, 0.5, 0.3])

    torch.testing.assert_close(turned, merged)


def test_the_same_call_gives_the_same_bits(merge: MergeFunction, shape: tuple[int, ...]) -> None:
    first = merge(_tensors(shape), COEFFICIENTS)
    torch.rand(3)

    assert torch.equal(merge(_tensors(shape), COEFFICIENTS), first)


def test_every_model_counts(merge: MergeFunction, shape: tuple[int, ...]) -> None:
    tensors = _tensors(shape)

    merged = merge(tensors, COEFFICIENTS)
    without_last = merge([*tensors[:2], torch.zeros(shape)], COEFFICIENTS)

    assert not torch.equal(merged, without_last)
