from __future__ import annotations

import pytest
import torch
from torch import Generator

from stockpot.soups.alignment import layer_cosines


def test_a_weight_is_like_itself_and_unlike_its_negative() -> None:
    weight = torch.randn(6, 4, generator=Generator().manual_seed(0))

    pair = {"a": weight, "b": weight}, {"a": 3 * weight, "b": -weight}

    assert layer_cosines(*pair) == pytest.approx({"a": 1, "b": -1})
    assert layer_cosines(*pair, num_top=2) == pytest.approx({"a": 1, "b": -1})


def test_the_cosine_by_hand() -> None:
    found = layer_cosines({"w": torch.tensor([[3.0, 4.0]])}, {"w": torch.tensor([[1.0, 0.0]])})

    assert found["w"] == pytest.approx(0.6)


def test_top_compares_the_largest_singular_values_alone() -> None:
    first, second = (
        torch.diag(torch.tensor([2.0, 1.0, 0.5])),
        torch.diag(torch.tensor([4, -1, 1.0])),
    )

    whole, top = (layer_cosines({"w": first}, {"w": second}, num_top=n)["w"] for n in (None, 1))

    assert top == pytest.approx(1)
    assert whole == pytest.approx(7.5 / (5.25 * 18) ** 0.5)


def test_kernels_count_as_rows_and_vectors_are_left_out() -> None:
    kernel = torch.randn(3, 2, 3, 3, generator=Generator().manual_seed(0))
    state = {"conv.weight": kernel, "conv.bias": torch.ones(3)}

    found = layer_cosines(state, state, num_top=2)

    assert found == {"conv.weight": pytest.approx(1)}


def test_a_weight_of_zeros_has_a_cosine_of_zero() -> None:
    zero, one = {"w": torch.zeros(2, 2)}, {"w": torch.ones(2, 2)}

    assert layer_cosines(zero, one) == layer_cosines(zero, one, num_top=1) == {"w": 0.0}
