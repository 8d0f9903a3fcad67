"""FedAU: weights are mean intervals of participation, and tend to 1/p."""

from __future__ import annotations

import random

import pytest
import torch
from quadratic_clients import Simulation, one_round
from torch import tensor

from stockpot.soups.rounds.fedau import FedAU, count_round, new_history, participation_weights
from stockpot.soups.rounds.fedavg import FedAvg


def _weights(pattern: list[list[int]], num_clients: int, cutoff: int) -> list[float]:
    history = new_history(num_clients)
    for clients in pattern:
        history = count_round(history, clients, cutoff)
    weights: list[float] = participation_weights(history).tolist()
    return weights


def _mean_weight(p: float, rounds: int, cutoff: int, num_clients: int = 40) -> float:
    draws = random.Random(1)
    pattern = [[c for c in range(num_clients) if draws.random() < p] for _ in range(rounds)]
    return sum(_weights(pattern, num_clients, cutoff)) / num_clients


def test_a_weight_is_1_until_the_first_interval_has_ended() -> None:
    assert _weights([[0], [], []], 3, 50) == [1.0, 1.0, 1.0]


def test_a_weight_is_the_mean_interval_between_a_clients_rounds() -> None:
    # Client 0: intervals 1, 3; client 1: 2, 1, 1.
    assert _weights([[0], [1], [1], [0, 1]], 2, 50) == [2.0, 4 / 3]


def test_an_interval_is_cut_at_the_cutoff() -> None:
    # Seven rounds of waiting are two intervals of 3 and one that has not ended.
    assert _weights([[]] * 7 + [[0]], 1, 3) == [(3 + 3 + 2) / 3]


def test_weights_tend_to_the_inverse_of_the_probability() -> None:
    assert _mean_weight(0.25, 2000, 100_000, num_clients=1) == pytest.approx(4, abs=0.6)
    assert _mean_weight(0.25, 2000, 100_000) == pytest.approx(4, abs=0.1)
    assert _mean_weight(0.1, 3000, 100_000) == pytest.approx(10, abs=0.5)
    assert _mean_weight(1.0, 30, 50) == 1.0


def test_the_cutoff_bounds_weights_and_biases_those_of_rare_clients() -> None:
    # Mean interval (1 - 0.99^50) / 0.01 = 39.5
    assert _mean_weight(0.01, 3000, 50) == pytest.approx(39.5, abs=1.5)
    assert _mean_weight(0.0, 500, 50) == 50.0


def test_the_weight_before_a_round_is_used_in_it_and_the_sum_is_divided_by_all_clients() -> None:
    rule, start = FedAU(), {"w": tensor([0.0])}
    history = count_round(count_round(new_history(4), [], 50), [2], 50)  # client 2: interval 2

    round_ = one_round([], start, num_clients=4, models={2: {"w": tensor([1.0])}}, memory=history)
    merged = rule.merge(round_)

    assert merged.shares == {2: 0.5}
    assert merged.weights["w"].item() == 0.5  # 2 / 4
    assert merged.memory["total"].tolist() == [0, 0, 3, 0]


def test_with_full_participation_it_is_fedavg_with_equal_weights() -> None:
    targets, curvatures = (1.0, -2.0, 4.0), (1.0, 0.5, 3.0)

    torch.testing.assert_close(
        Simulation(FedAU(), targets, curvatures).run(9).x,
        Simulation(FedAvg(), targets, curvatures).run(9).x,
        rtol=0,
        atol=1e-12,
    )


def test_a_client_that_never_takes_part_has_no_effect() -> None:
    with_it = Simulation(FedAU(), (1.0, -2.0, 99.0), (1.0, 0.5, 3.0)).run(9, [0, 1])
    other = Simulation(FedAU(), (1.0, -2.0, -7.0), (1.0, 0.5, 8.0)).run(9, [0, 1])

    assert torch.equal(with_it.x["x"], other.x["x"])


def test_a_round_without_participants_counts_and_leaves_the_model() -> None:
    start = {"w": tensor([3.0])}

    merged = FedAU().without_participants(one_round([], start, num_clients=2))

    assert torch.equal(merged.weights["w"], start["w"])
    assert merged.memory["waited"].tolist() == [1, 1]


def test_unlike_equal_weights_it_finds_the_optimum_of_all_clients() -> None:
    targets, p, rounds = (0.0, 1.0), (0.9, 0.1), 2000

    def mean_of_last(rule: FedAU | FedAvg) -> float:
        clients, draws = Simulation(rule, targets, (1.0, 1.0), rate=0.01), random.Random(3)
        seen = []
        for _ in range(rounds):
            clients.run(1, [client for client in range(2) if draws.random() < p[client]])
            seen.append(clients.x["x"][0].item())
        return sum(seen[rounds // 2 :]) / (rounds - rounds // 2)

    assert mean_of_last(FedAU(cutoff=10_000)) == pytest.approx(0.5, abs=0.05)
    assert mean_of_last(FedAvg()) < 0.25


def test_the_cutoff_is_at_least_1() -> None:
    with pytest.raises(ValueError, match="cutoff must be at least 1"):
        FedAU(cutoff=0)
