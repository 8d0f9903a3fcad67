from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stockpot.workloads.responses import observed, unit_rows


def test_layers_are_told_of_in_the_order_they_run_with_what_they_read_and_wrote() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    seen: list[tuple[str, Tensor, Tensor]] = []
    inputs = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))

    with observed({"2": net[2], "0": net[0]}, lambda n, _, x, y: seen.append((n, x, y))):
        outputs = net(inputs)

    assert [name for name, _, _ in seen] == ["0", "2"]
    assert torch.equal(seen[0][1], inputs)
    assert torch.equal(seen[1][1], seen[0][2].relu())
    assert torch.equal(seen[1][2], outputs)


def test_nothing_is_told_afterwards_not_even_after_an_error() -> None:
    net = nn.Linear(2, 2)
    seen: list[str] = []

    with pytest.raises(ZeroDivisionError), observed({"": net}, lambda n, *_: seen.append(n)):
        raise ZeroDivisionError
    net(torch.zeros(1, 2))

    assert seen == []


def test_a_layer_that_returns_no_tensor_is_passed_over() -> None:
    layer = nn.MultiheadAttention(4, 1, batch_first=True)
    seen: list[str] = []
    inputs = torch.zeros(2, 3, 4)

    with observed({"attention": layer}, lambda n, *_: seen.append(n)):
        layer(inputs, inputs, inputs)

    assert seen == []


def test_units_are_channels_of_a_convolution_and_the_last_axis_of_other_layers() -> None:
    values = torch.arange(24.0).reshape(2, 3, 4)

    by_channel = unit_rows(nn.Conv1d(1, 3, 1), values)
    by_feature = unit_rows(nn.LayerNorm(4), values)

    assert by_channel.shape == (3, 8)
    assert by_channel[1].tolist() == [4, 5, 6, 7, 16, 17, 18, 19]
    assert by_feature.shape == (4, 6)
    assert by_feature[1].tolist() == [1, 5, 9, 13, 17, 21]
    assert by_feature.dtype == torch.float64
