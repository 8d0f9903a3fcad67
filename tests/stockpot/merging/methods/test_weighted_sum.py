"""Weighted sums: nothing is divided by the sum of the coefficients."""

from __future__ import annotations

import torch

from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.weighted_sum import weighted_sum


def test_coefficients_are_taken_as_they_are() -> None:
    tensors = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, -4.0])]

    assert weighted_sum(tensors, [2.0, -0.5]).tolist() == [0.5, 6.0]
    assert torch.equal(weighted_sum(tensors, [0.25, 0.75]), linear(tensors, [0.25, 0.75]))
