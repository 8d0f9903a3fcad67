from __future__ import annotations

import itertools
import math

import pytest
import torch
from alignment_nets import NETS, mlp, random_inputs, random_state, seeded
from torch import Generator, Tensor

from stockpot.errors import InputError
from stockpot.soups.alignment import (
    Spec,
    check_spec,
    layer_cosines,
    match_weights,
    permute,
    random_permutations,
    trace_spec,
)
from stockpot.soups.alignment.permutations import identity_permutations

State = dict[str, Tensor]


def _pair(name: str) -> tuple[State, State, Spec]:
    """Two nets with unlike weights, and their spec."""
    net = seeded(NETS[name]())
    first, second = (random_state(net, Generator().manual_seed(seed)) for seed in (1, 2))
    return first, second, trace_spec(net, random_inputs(Generator().manual_seed(0)))


def _inner_product(first: State, second: State) -> float:
    return math.fsum(
        float((first[name].double() * second[name].double()).sum())
        for name in first
        if "running" not in name and "tracked" not in name
    )


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_a_permuted_copy_of_an_mlp_is_put_back_exactly(depth: int, seed: int) -> None:
    generator = Generator().manual_seed(seed)
    net = seeded(mlp(width=32, depth=depth))
    state = random_state(net, generator)
    spec = trace_spec(net, random_inputs(generator))
    copy = permute(state, spec, random_permutations(check_spec(spec, state), generator))

    matching = match_weights(state, copy, spec, seed=seed)

    aligned = permute(copy, spec, matching.permutations)
    assert all(torch.equal(aligned[name], state[name]) for name in state)
    assert matching.is_converged


def test_a_permuted_copy_of_the_digits_net_is_put_back_exactly() -> None:
    state, _, spec = _pair("digits conv net with flatten")
    drawn = random_permutations(check_spec(spec, state), Generator().manual_seed(3))
    copy = permute(state, spec, drawn)

    aligned = permute(copy, spec, match_weights(state, copy, spec).permutations)

    assert all(torch.equal(aligned[name], state[name]) for name in state)


def test_one_hidden_layer_is_put_back_in_one_step() -> None:
    net = seeded(mlp(depth=1))
    state = random_state(net, Generator().manual_seed(0))
    spec = trace_spec(net, random_inputs(Generator().manual_seed(0)))
    drawn = random_permutations(check_spec(spec, state), Generator().manual_seed(1))

    matching = match_weights(state, permute(state, spec, drawn), spec)

    assert len(matching.objectives) == 2
    assert matching.objective == pytest.approx(_inner_product(state, state), rel=1e-12)


@pytest.mark.parametrize("name", NETS)
def test_a_net_matched_to_itself_stays_as_it_is(name: str) -> None:
    state, _, spec = _pair(name)

    matching = match_weights(state, state, spec)

    expected = identity_permutations(check_spec(spec, state))
    assert all(torch.equal(matching.permutations[x], expected[x]) for x in expected)


def test_units_that_are_all_alike_stay_where_they_are() -> None:
    first, second, spec = _pair("mlp")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in second.items()}

    matching = match_weights(first, zeros, spec)

    assert torch.equal(matching.permutations["1"], torch.arange(32))
    assert matching.is_converged


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", range(3))
def test_the_objective_never_falls_and_is_the_inner_product(name: str, seed: int) -> None:
    first, second, spec = _pair(name)

    matching = match_weights(first, second, spec, seed=seed)

    aligned = permute(second, spec, matching.permutations)
    assert all(later > sooner for sooner, later in itertools.pairwise(matching.objectives))
    assert matching.objectives[0] == pytest.approx(_inner_product(first, second), rel=1e-9)
    assert matching.objective == pytest.approx(_inner_product(first, aligned), rel=1e-9)
    assert matching.objective > matching.objectives[0] + 1


def test_one_permutation_is_the_best_of_all() -> None:
    generator = Generator().manual_seed(0)
    first, second = ({"w": torch.randn(5, 3, generator=generator)} for _ in range(2))

    matching = match_weights(first, second, {"w": ("P", None)})

    best = max(
        _inner_product(first, {"w": second["w"][list(order)]})
        for order in itertools.permutations(range(5))
    )
    assert matching.objective == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_tensor_that_names_a_permutation_twice_does_not_lower_the_objective(seed: int) -> None:
    generator = Generator().manual_seed(seed)
    first, second = ({"w": torch.randn(9, 9, generator=generator)} for _ in range(2))
    spec: Spec = {"w": ("P", "P")}

    matching = match_weights(first, second, spec, seed=seed)

    assert matching.objective >= matching.objectives[0]
    assert matching.objective == pytest.approx(
        _inner_product(first, permute(second, spec, matching.permutations)), rel=1e-9
    )


def test_running_statistics_take_no_part() -> None:
    first, second, spec = _pair("residual net with batch norm and pooling")
    others = {
        name: tensor.flip(0) * 100 if "running" in name else tensor
        for name, tensor in second.items()
    }

    matchings = [match_weights(first, x, spec) for x in (second, others)]

    assert matchings[0].objectives == matchings[1].objectives


@pytest.mark.parametrize("name", NETS)
def test_matching_raises_the_mean_cosine_of_the_layers(name: str) -> None:
    first, second, spec = _pair(name)

    aligned = permute(second, spec, match_weights(first, second, spec).permutations)

    before, after = (layer_cosines(first, x).values() for x in (second, aligned))
    assert sum(after) > sum(before)


def test_more_restarts_are_never_worse() -> None:
    first, second, spec = _pair("residual net with batch norm and flatten")

    found = [match_weights(first, second, spec, restarts=number) for number in (1, 2, 4)]

    objectives = [matching.objective for matching in found]
    assert objectives == sorted(objectives)
    assert objectives[0] < objectives[-1]


def test_other_starts_than_the_identity_can_be_better() -> None:
    generator = Generator().manual_seed(5)
    first, second = ({"w": torch.randn(9, 9, generator=generator)} for _ in range(2))

    found = [match_weights(first, second, {"w": ("P", "P")}, restarts=n) for n in range(1, 8)]

    objectives = [matching.objective for matching in found]
    assert objectives == sorted(objectives)
    assert objectives[0] < objectives[-1]


def test_equal_seeds_give_equal_results_and_others_another_order() -> None:
    first, second, spec = _pair("residual net with batch norm and flatten")

    found = [match_weights(first, second, spec, seed=seed) for seed in (0, 0, 1)]

    assert found[0].objectives == found[1].objectives
    assert found[0].objectives != found[2].objectives


def test_matching_that_is_cut_short_says_so() -> None:
    first, second, spec = _pair("digits conv net with flatten")

    matching = match_weights(first, second, spec, sweeps=1)

    assert not matching.is_converged


def test_a_net_of_one_layer_has_nothing_to_match() -> None:
    state = {"weight": torch.ones(3, 4)}

    matching = match_weights(state, {"weight": torch.zeros(3, 4)}, {"weight": (None, None)})

    assert matching.permutations == {}
    assert matching.objectives == (0.0,)


def test_half_precision_is_matched_like_its_values_in_double() -> None:
    first, second, spec = _pair("mlp")
    halves = [{name: x.half() for name, x in state.items()} for state in (first, second)]

    matching = match_weights(halves[0], halves[1], spec)

    doubles = [{name: x.double() for name, x in state.items()} for state in halves]
    assert matching.objectives == match_weights(doubles[0], doubles[1], spec).objectives


@pytest.mark.parametrize("wrong", [{"restarts": 0}, {"sweeps": 0}])
def test_numbers_below_one_are_refused(wrong: dict[str, int]) -> None:
    state = {"w": torch.ones(2)}

    with pytest.raises(InputError, match="restarts and sweeps must be at least 1, got "):
        match_weights(state, state, {"w": ("P",)}, **wrong)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"w": torch.ones(2), "v": torch.ones(1)}, r"'v' must have one .*, got none and \(1,\)"),
        ({"w": torch.ones(3)}, r"'w' must have one shape in both nets, got \(2,\) and \(3,\)"),
    ],
)
def test_nets_with_unlike_tensors_are_refused(second: State, message: str) -> None:
    with pytest.raises(InputError, match=message):
        match_weights({"w": torch.ones(2)}, second, {"w": ("P",)})
