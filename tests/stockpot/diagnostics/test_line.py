from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Generator, Tensor

from stockpot.diagnostics.line import LineScores, score_line
from stockpot.errors import InputError

State = Mapping[str, Tensor]
FIRST, SECOND = {"w": torch.tensor([-1.0])}, {"w": torch.tensor([1.0])}


def _value(state: State) -> float:
    return float(state["w"])


def test_the_barrier_between_a_net_and_itself_is_zero() -> None:
    state = {"w": torch.randn(50, generator=Generator().manual_seed(0))}

    line = score_line(state, state, lambda x: float(x["w"].square().sum()))

    assert line.loss_barrier == pytest.approx(0, abs=1e-4)
    assert line.accuracy_barrier == pytest.approx(0, abs=1e-4)
    assert line.scores[5] > 1


def test_nets_along_the_line_are_scored_in_order() -> None:
    line = score_line(FIRST, SECOND, _value, num_points=5)

    assert line.shares == (0, 0.25, 0.5, 0.75, 1)
    assert line.scores == pytest.approx((-1, -0.5, 0, 0.5, 1))
    assert line.rises == pytest.approx((0, 0, 0, 0, 0))


def test_a_hill_of_the_loss_is_its_barrier() -> None:
    line = score_line(FIRST, SECOND, lambda state: 3 - _value(state) ** 2)

    assert line.loss_barrier == pytest.approx(1)
    assert line.accuracy_barrier == 0


def test_a_valley_of_the_accuracy_is_its_barrier() -> None:
    line = score_line(FIRST, SECOND, lambda state: _value(state) ** 2)

    assert line.accuracy_barrier == pytest.approx(1)
    assert line.loss_barrier == 0


def test_the_barrier_is_measured_from_the_line_between_unequal_ends() -> None:
    line = LineScores(shares=(0, 0.25, 1), scores=(1.0, 4.0, 5.0))

    assert line.rises == (0, 2, 0)
    assert line.loss_barrier == 2


def test_nets_between_the_ends_are_corrected_before_they_are_scored() -> None:
    def move(state: State, share: float) -> State:
        return {"w": state["w"] + 10 * share}

    line = score_line(FIRST, SECOND, _value, num_points=3, correct=move)

    assert line.scores == (-1, 5, 1)


def test_batch_norm_variances_are_pooled_with_their_means() -> None:
    states = [
        {"n.running_mean": torch.tensor([mean]), "n.running_var": torch.tensor([1.0])}
        for mean in (-1.0, 1.0)
    ]

    line = score_line(*states, lambda state: float(state["n.running_var"]), num_points=3)

    assert line.scores == (1, 2, 1)


def test_fewer_than_three_points_are_refused() -> None:
    with pytest.raises(InputError, match="num_points must be at least 3, got 2"):
        score_line(FIRST, SECOND, _value, num_points=2)
