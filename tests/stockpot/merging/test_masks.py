"""Weights of which many are 0 must agree on their places, found by a sample if they are large."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.masks import check_agreement

SHAPES = [(10, 30), (512, 512), (700, 488)]  # 488: a multiple of the sample's step


def _weights(shape: tuple[int, int], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _without_columns(weights: Tensor, first: int) -> Tensor:
    """Return weights of which 1 in 10 columns is 0, from a column on."""
    pruned = weights.clone()
    pruned[:, first::10] = 0
    return pruned


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pruned", [0, 1])
def test_masks_that_differ_are_found_in_tensors_of_any_size(
    shape: tuple[int, int], pruned: int
) -> None:
    models = [_weights(shape), _weights(shape, 1)]
    models[pruned] = _without_columns(models[pruned], 3)

    with pytest.raises(InputError, match="model 1 must be 0 in the same places as model 0"):
        check_agreement("layer.weight", models, None, None)
    check_agreement("layer.bias", models, None, None)
    check_agreement("layer.weight", models, None, "union")


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_masks_agree_and_a_base_that_fills_them_does_not(shape: tuple[int, int]) -> None:
    models = [_without_columns(_weights(shape, seed), 3) for seed in (0, 1)]

    check_agreement("layer.weight", models, models[0], None)
    with pytest.raises(InputError, match="the base must be 0"):
        check_agreement("layer.weight", models, _weights(shape), None)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_few_zeros_are_no_mask(shape: tuple[int, int]) -> None:
    models = [_weights(shape), _weights(shape, 1)]
    few = models[1].numel() // 100
    models[1].view(-1)[:few] = 0

    check_agreement("layer.weight", models, None, None)
