from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from stockpot.merging.engine import merge_states
from stockpot.soups.tuning.mixtures import GROUPS, Mixture, recipes

State = dict[str, Tensor]


def _net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def _states(num_models: int, seed: int = 0) -> list[State]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: tensor.shape for name, tensor in _net().state_dict().items()}
    return [
        {
            name: torch.randn(shape, generator=generator, dtype=torch.float64)
            for name, shape in shapes.items()
        }
        for _ in range(num_models)
    ]


def _loss(weights: State) -> Tensor:
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    outputs: Tensor = functional_call(_net(), weights, inputs)
    return outputs.log_softmax(dim=1)[:, 0].mean()


def _gradient(weights: State) -> State:
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    slopes = torch.autograd.grad(_loss(leaves), list(leaves.values()))
    return dict(zip(leaves, slopes, strict=True))


@pytest.mark.parametrize(("per", "num_groups"), [("model", 1), ("layer", 2), ("tensor", 4)])
def test_groups_are_the_model_its_modules_or_its_tensors(per: str, num_groups: int) -> None:
    mixture = Mixture(_states(3), per)

    assert mixture.shape == (num_groups, 3)


def test_a_tensor_of_the_model_itself_is_a_layer_of_its_own() -> None:
    assert [GROUPS["layer"](name) for name in ("weight", "a.b.weight")] == ["weight", "a.b"]


ELECTED = {"density": 0.4, "scope": "model"}


@pytest.mark.parametrize("elected", [None, ELECTED], ids=["whole", "elected"])
@pytest.mark.parametrize("per", sorted(GROUPS))
def test_the_gradient_of_task_vectors_is_that_of_finite_differences(
    per: str, elected: Mapping[str, Any] | None
) -> None:
    *states, base = _states(4)
    mixture = Mixture(states, per, base, elected)
    coefficients = torch.rand(
        mixture.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )

    pulled = mixture.pull_back(_gradient(mixture.weights(mixture.rows(coefficients))))

    torch.testing.assert_close(pulled, _differences(mixture, coefficients), rtol=1e-6, atol=1e-8)


def _differences(mixture: Mixture, coefficients: Tensor, step: float = 1e-5) -> Tensor:
    """Return central differences of the loss for each coefficient."""
    slopes = torch.zeros(mixture.shape, dtype=torch.float64)
    for place in torch.cartesian_prod(*(torch.arange(size) for size in mixture.shape)).tolist():
        moved = [coefficients.clone() for _ in range(2)]
        moved[0][tuple(place)] += step
        moved[1][tuple(place)] -= step
        high, low = (float(_loss(mixture.weights(mixture.rows(each)))) for each in moved)
        slopes[tuple(place)] = (high - low) / (2 * step)
    return slopes


def test_task_vectors_times_zero_are_the_base() -> None:
    *states, base = _states(4)
    mixture = Mixture(states, "layer", base)

    merged = mixture.weights(mixture.rows(torch.zeros(mixture.shape)))

    assert all(torch.equal(tensor, base[name]) for name, tensor in merged.items())


def test_elected_task_vectors_are_merged_as_the_engine_merges_them_whatever_the_rows() -> None:
    *states, base = _states(4)
    mixture = Mixture(states, "layer", base, ELECTED)

    for rows in ({"0": (0.3, 0.0, 0.9), "2": (0.0, 0.2, 0.1)}, {"0": (0.0,) * 3, "2": (1.0,) * 3}):
        merged = mixture.weights(rows)

        expected = merge_states(states, recipes("elected_sum", "layer", rows, ELECTED), base)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in merged.items())


def test_one_task_vector_times_one_is_its_model() -> None:
    *states, base = _states(4)
    mixture = Mixture(states, "layer", base)

    merged = mixture.weights(dict.fromkeys(mixture.groups, (0.0, 1.0, 0.0)))

    torch.testing.assert_close(merged, states[1])


def test_one_hot_coefficients_give_each_layer_of_its_model_bit_for_bit() -> None:
    states = _states(3)
    mixture = Mixture(states, "layer")

    merged = mixture.weights({"0": (0.0, 0.0, 1.0), "2": (1.0, 0.0, 0.0)})

    assert all(torch.equal(merged[name], states[2][name]) for name in ("0.weight", "0.bias"))
    assert all(torch.equal(merged[name], states[0][name]) for name in ("2.weight", "2.bias"))


def test_for_one_linear_layer_mixing_weights_is_mixing_outputs_but_not_for_two() -> None:
    states, shares = _states(3), torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    merged = Mixture(states, "model").weights({"model": shares.tolist()})
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def outputs(net: nn.Module, state: State) -> Tensor:
        result: Tensor = functional_call(net, state, inputs)
        return result

    def first_layer(state: State) -> State:
        return {"weight": state["0.weight"], "bias": state["0.bias"]}

    one = [outputs(nn.Linear(3, 4), first_layer(state)) for state in (*states, merged)]
    two = [outputs(_net(), state) for state in (*states, merged)]

    mixed_one, mixed_two = (
        torch.einsum("m,mnc->nc", shares, torch.stack(o[:3])) for o in (one, two)
    )
    torch.testing.assert_close(one[3], mixed_one)
    assert not torch.allclose(two[3], mixed_two, atol=1e-2)


def test_statistics_of_models_that_count_zero_are_their_mean() -> None:
    states = [{"a.weight": torch.ones(2, 2), "a.running_mean": torch.tensor([v])} for v in (1.0, 3)]
    base = {"a.weight": torch.zeros(2, 2), "a.running_mean": torch.tensor([9.0])}

    merged = Mixture(states, "model", base).weights({"model": (0.0, 0.0)})

    assert torch.equal(merged["a.running_mean"], torch.tensor([2.0]))
    assert torch.equal(merged["a.weight"], base["a.weight"])


def test_a_merge_is_finished_with_the_weights_of_models_that_were_trained() -> None:
    states, seen = _states(2), []

    def finish(weights: State, _shares: object, _with_base: bool, trained: Any) -> State:
        seen.append(trained)
        return weights

    mixture = Mixture(states, "model", finish=finish)
    slopes = {"2.bias": torch.ones_like(states[0]["2.bias"])}
    for rate in (0.0, 0.5):
        mixture.descend(slopes, torch.tensor([[rate, 0.0]]))
        mixture.weights({"model": (0.5, 0.5)})

    first, (moved, still) = seen
    assert first is None
    assert torch.equal(moved["2.bias"], states[0]["2.bias"] - 0.5)
    assert torch.equal(still["2.bias"], states[1]["2.bias"])


def test_with_a_base_pruned_entries_stay_0_and_have_no_gradient() -> None:
    *states, base = _states(3)
    for state in states:
        state["0.weight"][0] = 0
    masks = [{"0.weight": state["0.weight"] != 0} for state in states]
    mixture = Mixture(states, "model", base, masks=masks)
    rows = torch.tensor([[0.3, 0.3]])

    merged = mixture.weights(mixture.rows(rows))
    slope = {"0.weight": torch.zeros_like(base["0.weight"])}
    slope["0.weight"][0] = 1.0

    assert not merged["0.weight"][0].any()
    assert merged["0.weight"][1:].all()
    assert not mixture.pull_back(slope).any()
