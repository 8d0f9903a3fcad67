"""Merge methods on a device: no tensor on the CPU is mixed in, and entries are the same."""

from __future__ import annotations

import pytest
import torch
from late_device import OnDevice, late_device

from stockpot.merging.checks import side_information
from stockpot.merging.draws import Draws
from stockpot.merging.registry import METHODS

REQUIRED = {"t": 0.4, "num_layers": 1}
SHAPES = ((7,), (4, 3, 2, 2))


@pytest.mark.parametrize("name", METHODS)
def test_method_merges_where_its_tensors_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = METHODS[name]
    least, largest = method.num_models
    count = max(least, min(largest or 3, 3))
    options = {key: REQUIRED[key] for key, value in method.options.items() if value is ...}
    for shape in SHAPES:
        own = torch.Generator().manual_seed(len(shape))
        *tensors, base = (torch.randn(shape, generator=own) for _ in range(count + 1))
        side = side_information(method, tensors)
        draws = [Draws(number) for number in range(count)]
        coefficients = [0.5, 0.3, 0.2][:count]
        expected = method(tensors, coefficients, base, draws, options, side)

        with late_device(monkeypatch):
            there = [OnDevice(tensor) for tensor in (*tensors, base)]
            merged = method(there[:-1], coefficients, there[-1], draws, options, side)

        assert isinstance(merged, OnDevice)
        assert torch.equal(merged.held, expected)
