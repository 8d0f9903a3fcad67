"""Server momentum and FedAvg-M, by hand and by the rules that they contain."""

from __future__ import annotations

import pytest
import torch
from quadratic_clients import Simulation, one_round
from torch import tensor

from stockpot.soups.rounds.fedavg import FedAvg
from stockpot.soups.rounds.fedavg_m import FedAvgM
from stockpot.soups.rounds.rule import RoundRule
from stockpot.soups.rounds.server_momentum import ServerMomentum

TARGETS, CURVATURES = (1.0, -2.0, 4.0), (1.0, 0.5, 3.0)


def _after(rule: RoundRule, rounds: int, steps: int = 3) -> torch.Tensor:
    return Simulation(rule, TARGETS, CURVATURES, steps).run(rounds).x["x"]


def test_server_momentum_adds_the_mean_change_to_a_decaying_sum() -> None:
    rule, start = ServerMomentum(momentum=0.5), {"w": tensor([1.0])}

    first = rule.merge(one_round([{"w": tensor([3.0])}], start))
    second = rule.merge(one_round([{"w": tensor([4.0])}], first.weights, memory=first.memory))

    assert (first.weights["w"].item(), first.memory["w"].item()) == (3.0, 2.0)
    assert (second.weights["w"].item(), second.memory["w"].item()) == (5.0, 2.0)  # 0.5 * 2 + 1


def test_server_momentum_of_0_is_fedavg() -> None:
    torch.testing.assert_close(
        _after(ServerMomentum(momentum=0.0), 7), _after(FedAvg(), 7), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("steps", [1, 4])
def test_fedavg_m_with_beta_1_is_fedavg(steps: int) -> None:
    torch.testing.assert_close(
        _after(FedAvgM(beta=1.0), 7, steps), _after(FedAvg(), 7, steps), rtol=0, atol=1e-12
    )


def test_fedavg_m_with_one_local_step_is_sgd_with_averaged_momentum() -> None:
    beta, clients = 0.2, Simulation(FedAvgM(beta=0.2), TARGETS, CURVATURES, steps=1)
    x, direction = clients.x["x"].clone(), torch.zeros(2, dtype=torch.float64)

    clients.run(15)
    for _ in range(15):
        mean = sum(clients.gradient(client, x) for client in range(3)) / 3
        direction = beta * mean + (1 - beta) * direction
        x = x - 0.1 * direction

    torch.testing.assert_close(clients.x["x"], x, rtol=0, atol=1e-12)
    torch.testing.assert_close(clients.memory["x"], direction, rtol=0, atol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 1.5])
def test_beta_is_a_positive_share(beta: float) -> None:
    with pytest.raises(ValueError, match=r"beta must be in \(0, 1\]"):
        FedAvgM(beta=beta)


def test_momentum_is_below_1() -> None:
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\)"):
        ServerMomentum(momentum=1.0)
