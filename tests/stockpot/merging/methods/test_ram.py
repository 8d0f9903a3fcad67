from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.ram import ram, ram_plus

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3)]
BASE = torch.tensor([1.0, 1.0, 1.0, 1.0])
MODELS = [torch.tensor([3.0, 1.0, 5.0, 1.0]), torch.tensor([5.0, 2.0, 1.0, 1.0])]


def _random(shape: tuple[int, ...], num_models: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(37)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_ram_of_a_case_computed_by_hand() -> None:
    # Both changed the first entry, one each the second and third, none the last.
    merged = ram(MODELS, BASE)

    assert merged.tolist() == [4.0, 2.0, 5.0, 1.0]


def test_ram_plus_of_a_case_computed_by_hand() -> None:
    # Each model has one shared and one unique entry: their ratio, 1, is capped at 0.5.
    merged = ram_plus(MODELS, BASE, r=0.5, alpha=0.5)

    assert merged.tolist() == [4.0, 2.25, 6.0, 1.0]


def test_ram_plus_amplifies_by_the_ratio_where_it_is_below_the_cap() -> None:
    merged = ram_plus(MODELS, BASE, r=0.5, alpha=3.0)

    assert merged.tolist() == [4.0, 2.5, 7.0, 1.0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_where_all_models_changed_ram_is_linear(shape: tuple[int, ...]) -> None:
    *tensors, base = _random(shape, 4)

    merged = ram(tensors, base)

    torch.testing.assert_close(merged, linear(tensors, [1, 1, 1]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ram_of_one_model_is_that_model(shape: tuple[int, ...]) -> None:
    tensor, base = _random(shape, 2)

    torch.testing.assert_close(ram([tensor], base), tensor)
    torch.testing.assert_close(ram_plus([tensor], base), tensor)


def test_ram_plus_without_amplification_is_ram() -> None:
    *tensors, base = _random((3, 50), 4)
    tensors = [
        t.where(torch.rand(3, 50, generator=torch.Generator().manual_seed(k)) < 0.5, base)
        for k, t in enumerate(tensors)
    ]

    merged = ram_plus(tensors, base, r=0.0)

    assert torch.equal(merged, ram(tensors, base))
    assert not torch.equal(merged, ram_plus(tensors, base))


@pytest.mark.parametrize("merge", [ram, ram_plus])
def test_small_changes_do_not_count(merge: Callable[..., Tensor]) -> None:
    models = [torch.tensor([0.5, 2.0]), torch.tensor([4.0, 0.5])]

    merged = merge(models, torch.zeros(2), epsilon=0.5)

    assert merged.tolist() == [4.0, 2.0]


@pytest.mark.parametrize("merge", [ram, ram_plus])
def test_a_negative_epsilon_is_refused(merge: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="epsilon must be at least 0, got -1"):
        merge(MODELS, BASE, epsilon=-1)
