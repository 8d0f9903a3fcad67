from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stockpot.scoring.metrics.calibration import (
    NUM_BINS,
    equal_mass_bins,
    equal_width_bins,
    expected_calibration_error,
    reliability,
)


def _logits(confidences: Tensor) -> Tensor:
    """Two classes, the first of which has these probabilities."""
    return torch.stack([confidences.logit(), torch.zeros(len(confidences))], dim=1)


def test_equal_widths_by_hand() -> None:
    confidences = np.array([0.001, 1 / 15, 1 / 15 + 1e-9, 0.5, 1.0])

    assert equal_width_bins(confidences).tolist() == [0, 0, 1, 7, 14]


def test_the_error_is_the_gap_of_each_bin_weighted_by_its_share() -> None:
    confidences = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.6, 0.6]).double()
    targets = torch.tensor([0, 0, 0, 1, 1, 1])  # 3 of 4 right at 0.9, none of 2 at 0.6

    error = expected_calibration_error(_logits(confidences), targets, equal_width_bins)

    assert error == pytest.approx(4 / 6 * (0.9 - 0.75) + 2 / 6 * 0.6)


def test_equal_masses_divide_examples_evenly() -> None:
    confidences = np.random.default_rng(0).random(300)

    sizes = np.bincount(equal_mass_bins(confidences), minlength=NUM_BINS)

    assert sizes.tolist() == [20] * NUM_BINS


@given(seed=st.integers(0, 100), size=st.integers(1, 60))
def test_equal_confidences_are_in_one_bin_whatever_their_order(seed: int, size: int) -> None:
    generator = np.random.default_rng(seed)
    confidences = generator.integers(1, 6, size) / 5
    order = generator.permutation(size)

    for binning in (equal_mass_bins, equal_width_bins):
        bins = binning(confidences)
        assert binning(confidences[order]).tolist() == bins[order].tolist()
        assert len(np.unique(bins)) <= len(np.unique(confidences))
        assert bins.min() >= 0
        assert bins.max() < NUM_BINS


@pytest.mark.parametrize("binning", [equal_width_bins, equal_mass_bins])
def test_the_error_of_a_calibrated_model_falls_to_0(binning: object) -> None:
    def error(size: int) -> float:
        generator = torch.Generator().manual_seed(1)
        confidences = 0.5 + 0.499 * torch.rand(size, generator=generator).double()
        is_wrong = torch.rand(size, generator=generator).double() >= confidences
        return expected_calibration_error(_logits(confidences), is_wrong.long(), binning)  # type: ignore[arg-type]  # one of two

    assert error(100_000) < 0.005
    assert error(100_000) < error(200) / 3


@pytest.mark.parametrize("binning", [equal_width_bins, equal_mass_bins])
def test_one_that_is_sure_and_always_wrong_has_an_error_of_1(binning: object) -> None:
    logits = torch.tensor([[100.0, 0.0]]).expand(20, -1)

    error = expected_calibration_error(logits, torch.ones(20, dtype=torch.long), binning)  # type: ignore[arg-type]  # one of two

    assert error == pytest.approx(1)


def test_reliability_bins_hold_all_examples_in_order() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 5, generator=generator)
    targets = torch.randint(5, (200,), generator=generator)

    bins = reliability(logits, targets)

    confidences = [row["confidence"] for row in bins]
    right = sum(row["accuracy"] * row["count"] for row in bins)
    assert sum(row["count"] for row in bins) == 200
    assert confidences == sorted(confidences)
    assert right == pytest.approx((logits.argmax(dim=1) == targets).sum().item())
    gap = sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in bins) / 200
    assert gap == pytest.approx(expected_calibration_error(logits, targets, equal_mass_bins))


def test_reliability_of_one_example() -> None:
    rows = reliability(_logits(torch.tensor([0.75]).double()), torch.tensor([1]))

    assert rows == [{"confidence": pytest.approx(0.75), "accuracy": 0.0, "count": 1}]
