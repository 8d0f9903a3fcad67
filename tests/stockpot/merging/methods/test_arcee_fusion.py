from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stockpot.merging.methods.arcee_fusion import arcee_fusion

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3)]


def _random(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(31)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def test_arcee_fusion_of_a_case_computed_by_hand() -> None:
    # One row: the divergence is a common factor, so distances are compared. Sorted they are
    # 1, 2, 3, 4, 20 with quartiles 2 and 4, so the threshold is 3 + 1.5 * 2.
    base = torch.zeros(5)
    tensor = torch.tensor([1.0, -20.0, 3.0, 2.0, 4.0])

    merged = arcee_fusion([tensor], base)

    assert merged.tolist() == [0.0, -20.0, 0.0, 0.0, 0.0]


def test_the_threshold_is_exact() -> None:
    # Distances of 0 to 100 have quartiles 25, 50 and 75, which outliers do not move.
    distances = torch.cat([torch.arange(98.0), torch.tensor([124.9, 125.1, 1000.0])]) / 100
    order = torch.randperm(101, generator=torch.Generator().manual_seed(0))

    merged = arcee_fusion([distances[order]], torch.zeros(101))

    taken = torch.tensor([1.251, 10.0])
    torch.testing.assert_close(merged.sort().values, torch.cat([torch.zeros(99), taken]))


def test_the_divergence_of_an_output_unit_weighs_its_changes() -> None:
    # The first unit moves all its entries by 1: its softmax, so its importance, is unchanged.
    base = torch.zeros(2, 4)
    tensor = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.5, 0.0, 0.0, 0.0]])

    merged = arcee_fusion([tensor], base)

    # Importances: 0 but for one entry, so quartiles and threshold are 0, and all 0 are kept.
    assert torch.equal(merged, tensor)


def test_importance_is_distance_times_divergence_of_the_softmaxes() -> None:
    base = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    tensor = torch.tensor([[3.0, -3.0], [0.1, 0.2], [0.2, 0.1], [4.0, 3.9]])

    merged = arcee_fusion([tensor], base)

    # The last row moved farthest, but its softmax hardly did.
    assert merged.tolist() == [[3.0, -3.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_entry_is_the_base_s_or_the_model_s_bit_for_bit(shape: tuple[int, ...]) -> None:
    tensor, base = _random(shape)

    merged = arcee_fusion([tensor], base)

    assert ((merged == tensor) | (merged == base)).all()


def test_only_outliers_are_taken_over() -> None:
    tensor, base = _random((200, 50))

    merged = arcee_fusion([tensor], base)

    share = float((merged == tensor).double().mean())
    assert 0.02 < share < 0.25


@pytest.mark.parametrize("shape", [(20, 500), (3, 70_000)], ids=str)
def test_divergences_of_small_changes_are_in_float64(shape: tuple[int, int]) -> None:
    noise, base = _random(shape)
    tensor = base + 1e-4 * noise
    p, q = tensor.double().softmax(dim=1), base.double().softmax(dim=1)
    divergence = (p * (p / q).log()).sum(dim=1, keepdim=True)
    importance = (tensor.double() - base.double()).abs() * divergence
    q1, median, q3 = importance.flatten().quantile(torch.tensor([0.25, 0.5, 0.75]).double())

    merged = arcee_fusion([tensor], base)

    expected = torch.where(importance >= median + 1.5 * (q3 - q1), tensor, base)
    assert int((merged != expected).sum()) <= 2e-4 * base.numel()


def test_a_convolution_is_merged_by_output_unit() -> None:
    tensor, base = _random((4, 3, 3, 3))

    merged = arcee_fusion([tensor], base)

    flat = arcee_fusion([tensor.flatten(1)], base.flatten(1))
    assert torch.equal(merged, flat.view(4, 3, 3, 3))


def test_the_softmax_of_large_weights_stays_finite() -> None:
    base = torch.tensor([0.0, 1000.0, 0.0, 0.0])

    merged = arcee_fusion([torch.tensor([1000.0, 0.0, 1.0, 2.0])], base)

    assert all(math.isfinite(value) for value in merged.tolist())
    assert merged.tolist()[2:] == [0.0, 0.0]
