from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.wsm import DECAYS, wsm
from stockpot.merging.recipe import Recipe


def _checkpoints(gradients: list[Tensor], rates: list[float]) -> list[Tensor]:
    """Return the weights of a run of plain SGD: at its start, and after each step."""
    weights = [torch.linspace(-1, 1, gradients[0].numel(), dtype=torch.float64)]
    for gradient, rate in zip(gradients, rates, strict=True):
        weights.append(weights[-1] - rate * gradient)
    return weights


def test_coefficients_are_the_differences_of_the_decay() -> None:
    units = list(torch.eye(4, dtype=torch.float64))  # the merge has the coefficients as entries

    merged = wsm(units, decay="1-sqrt")

    root = [math.sqrt(place / 4) for place in range(5)]
    expected = [root[1], root[2] - root[1], root[3] - root[2], 1 - root[3]]
    torch.testing.assert_close(merged, torch.tensor(expected, dtype=torch.float64))


def test_a_linear_decay_is_the_mean_of_the_checkpoints() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(3, 5, generator=generator) for _ in range(5)]

    torch.testing.assert_close(wsm(tensors, decay="linear"), linear(tensors, [1.0] * 5))


@pytest.mark.parametrize("decay", DECAYS)
def test_it_is_the_end_of_a_run_of_sgd_whose_learning_rate_decayed(decay: str) -> None:
    generator = torch.Generator().manual_seed(1)
    gradients = [torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(7)]
    constant = _checkpoints(gradients, [0.1] * 7)
    shares = [DECAYS[decay](step / 8) for step in range(1, 8)]

    decayed = _checkpoints(gradients, [0.1 * share for share in shares])

    torch.testing.assert_close(wsm(constant, decay=decay), decayed[-1], rtol=0, atol=1e-12)


def test_statistics_of_batch_norm_have_the_same_coefficients() -> None:
    states = [{"running_mean": row, "weight": row.clone()} for row in torch.eye(3)]

    merged = merge_states(states, Recipe("wsm", (1.0,) * 3, {"decay": "cosine"}))

    torch.testing.assert_close(merged["running_mean"], merged["weight"])


def test_a_single_checkpoint_stays_bit_for_bit() -> None:
    tensor = torch.tensor([0.1, -0.3])

    assert torch.equal(wsm([tensor]), tensor)


def test_an_unknown_decay_is_refused_before_anything_is_read() -> None:
    expected = r"wsm: decay must be one of \['1-sqrt', 'cosine', 'linear'\], got 'sqrt'"
    with pytest.raises(InputError, match=expected):
        Recipe("wsm", (1.0, 1.0), {"decay": "sqrt"}).check(has_base=False)
