"""SCAFFOLD and SCAFFOLD-M: invariants of their control variates, and where they converge to."""

from __future__ import annotations

import random

import pytest
import torch
from quadratic_clients import Simulation
from torch import Tensor

from stockpot.soups.rounds.fedavg import FedAvg
from stockpot.soups.rounds.rule import RoundRule
from stockpot.soups.rounds.scaffold import Scaffold
from stockpot.soups.rounds.scaffold_m import ScaffoldM

TARGETS, CURVATURES = (1.0, -2.0, 4.0, 0.5), (1.0, 0.5, 3.0, 2.0)
RULES = [Scaffold(), ScaffoldM(beta=0.3), ScaffoldM(beta=1.0)]


def _control(clients: Simulation) -> Tensor:
    return clients.memory.get("control/x", clients.memory.get("x", torch.zeros(2)))


@pytest.mark.parametrize("rule", RULES)
def test_the_servers_control_variate_is_the_mean_of_the_clients(rule: RoundRule) -> None:
    clients, draws = Simulation(rule, TARGETS, CURVATURES), random.Random(0)

    for _ in range(12):
        clients.run(1, [client for client in range(4) if draws.random() < 0.6])
        own = [clients.own.get(client, {"x": torch.zeros(2)})["x"] for client in range(4)]

        torch.testing.assert_close(_control(clients), sum(own) / 4, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", [Scaffold(), ScaffoldM(beta=1.0)])
def test_the_corrections_of_all_clients_sum_to_zero(rule: RoundRule) -> None:
    clients = Simulation(rule, TARGETS, CURVATURES).run(5)

    offsets = [clients.correction(client).offset["x"] for client in range(4)]

    torch.testing.assert_close(sum(offsets), torch.zeros(2).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_a_clients_control_variate_is_its_mean_gradient(rule: RoundRule) -> None:
    clients = Simulation(rule, TARGETS, CURVATURES).run(3)
    correction, x, gradients = clients.correction(1), clients.x["x"].clone(), []
    for _ in range(3):
        gradients.append(clients.gradient(1, x))
        x = x - 0.1 * (correction.scale * gradients[-1] + correction.offset["x"])

    clients.run(1)

    torch.testing.assert_close(clients.own[1]["x"], sum(gradients) / 3, rtol=0, atol=1e-12)


def test_with_one_local_step_and_all_clients_it_is_gradient_descent_on_the_mean_loss() -> None:
    scaffold = Simulation(Scaffold(), TARGETS, CURVATURES, steps=1).run(20)
    fedavg = Simulation(FedAvg(), TARGETS, CURVATURES, steps=1).run(20)

    torch.testing.assert_close(scaffold.x, fedavg.x, rtol=0, atol=1e-12)


def test_scaffold_m_with_beta_1_is_scaffold() -> None:
    one = Simulation(ScaffoldM(beta=1.0), TARGETS, CURVATURES).run(9)
    other = Simulation(Scaffold(), TARGETS, CURVATURES).run(9)

    torch.testing.assert_close(one.x, other.x, rtol=0, atol=1e-12)
    torch.testing.assert_close(one.own, other.own, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", [Scaffold(), ScaffoldM(beta=0.3)])
def test_it_converges_to_the_optimum_that_fedavg_misses(rule: RoundRule) -> None:
    clients = Simulation(rule, TARGETS, CURVATURES, steps=10).run(300)
    drifted = Simulation(FedAvg(), TARGETS, CURVATURES, steps=10).run(300)

    assert clients.x["x"].tolist() == pytest.approx([clients.optimum] * 2, abs=1e-9)
    assert abs(drifted.x["x"][0].item() - drifted.optimum) > 0.1


@pytest.mark.parametrize("rule", RULES)
def test_without_participants_nothing_changes(rule: RoundRule) -> None:
    clients = Simulation(rule, TARGETS, CURVATURES).run(2)
    before = (clients.x, clients.memory, dict(clients.own))

    clients.run(1, [])

    torch.testing.assert_close((clients.x, clients.memory, clients.own), before, rtol=0, atol=0)
