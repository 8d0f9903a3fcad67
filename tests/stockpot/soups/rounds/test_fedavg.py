"""FedAvg: the mean of models weighted by their examples; with one step, gradient descent."""

from __future__ import annotations

import pytest
import torch
from quadratic_clients import Simulation, one_round
from torch import tensor

from stockpot.merging.engine import merge_states
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.soups.rounds.fedavg import FedAvg


def test_models_count_by_their_numbers_of_examples() -> None:
    start = {"w": tensor([1.0, 1.0])}
    models = [{"w": tensor([2.0, 1.0])}, {"w": tensor([1.0, 5.0])}]

    merged = FedAvg().merge(one_round(models, start, num_examples={0: 3, 1: 1}))

    assert merged.shares == {0: 0.75, 1: 0.25}
    assert merged.weights["w"].tolist() == [1.75, 2.0]


def test_a_server_step_of_2_goes_twice_as_far() -> None:
    start, models = {"w": tensor([1.0])}, [{"w": tensor([2.0])}, {"w": tensor([4.0])}]

    merged = FedAvg(server_step=2.0).merge(one_round(models, start))

    assert merged.weights["w"].tolist() == [5.0]


def test_one_round_of_equal_shards_is_the_uniform_soup() -> None:
    generator = torch.Generator().manual_seed(0)
    start, *models = ({"w": torch.randn(3, 4, generator=generator)} for _ in range(5))

    merged = FedAvg().merge(one_round(models, start))

    soup = merge_states(models, Recipe.of(linear, (0.25,) * 4, {}))
    torch.testing.assert_close(merged.weights, soup, rtol=0, atol=1e-6)


def test_with_one_local_step_and_all_clients_it_is_gradient_descent_on_the_mean_loss() -> None:
    clients = Simulation(FedAvg(), targets=(1.0, -2.0, 4.0), curvatures=(1.0, 0.5, 3.0), steps=1)
    x = clients.x["x"].clone()

    clients.run(20)
    for _ in range(20):
        x = x - 0.1 * sum(clients.gradient(client, x) for client in range(3)) / 3

    torch.testing.assert_close(clients.x["x"], x, rtol=0, atol=1e-12)


def test_without_participants_the_model_is_the_same() -> None:
    start = {"w": tensor([1.0, 2.0])}

    merged = FedAvg().without_participants(one_round([], start))

    assert torch.equal(merged.weights["w"], start["w"])


def test_batch_norm_statistics_are_pooled_and_counters_are_the_largest() -> None:
    def model(weight: float, mean: float, var: float, count: int) -> dict[str, torch.Tensor]:
        return {
            "bn.weight": tensor([weight]),
            "bn.running_mean": tensor([mean]),
            "bn.running_var": tensor([var]),
            "bn.num_batches_tracked": tensor(count),
        }

    models = [model(2.0, 0.0, 1.0, 5), model(4.0, 2.0, 3.0, 7)]

    merged = FedAvg().merge(one_round(models, model(1.0, 9.0, 9.0, 1)))

    assert merged.weights["bn.weight"].tolist() == [3.0]
    assert merged.weights["bn.running_mean"].tolist() == [1.0]
    assert merged.weights["bn.running_var"].tolist() == [3.0]  # mean of 1 and 3, plus spread 1
    assert merged.weights["bn.num_batches_tracked"].item() == 7


def test_half_precision_is_rounded_once() -> None:
    start, models = {"w": tensor([1.0]).bfloat16()}, [{"w": tensor([1.0078125]).bfloat16()}] * 3

    merged = FedAvg().merge(one_round(models, start))

    assert torch.equal(merged.weights["w"], models[0]["w"])


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan")])
def test_a_server_step_must_be_positive(step: float) -> None:
    with pytest.raises(ValueError, match="server_step must be in"):
        FedAvg(server_step=step)
