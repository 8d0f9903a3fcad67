from __future__ import annotations

import itertools

import pytest
import torch
from alignment_nets import mlp, random_inputs, random_state, seeded
from torch import Generator, Tensor

from stockpot.errors import InputError
from stockpot.soups.alignment import (
    Spec,
    check_spec,
    match_many,
    match_weights,
    permute,
    random_permutations,
    trace_spec,
)

NET = seeded(mlp(width=16))
SPEC = trace_spec(NET, random_inputs(Generator().manual_seed(0)))


def _states(number: int) -> list[dict[str, Tensor]]:
    return [random_state(NET, Generator().manual_seed(seed)) for seed in range(number)]


def _pairs_alike(states: list[dict[str, Tensor]], spec: Spec, **limits: int) -> float:
    """The sum of inner products of all pairs after matching."""
    found = match_many(states, spec, **limits)
    aligned = [permute(x, spec, own) for x, own in zip(states, found, strict=True)]
    return sum(
        float((one[name].double() * other[name].double()).sum())
        for one, other in itertools.combinations(aligned, 2)
        for name in one
    )


def test_permuted_copies_of_one_net_become_one_again() -> None:
    state = _states(1)[0]
    generator = Generator().manual_seed(7)
    sizes = check_spec(SPEC, state)
    copies = [permute(state, SPEC, random_permutations(sizes, generator)) for _ in range(4)]

    found = match_many(copies, SPEC)

    aligned = [permute(copy, SPEC, own) for copy, own in zip(copies, found, strict=True)]
    assert all(torch.equal(x[name], aligned[0][name]) for x in aligned for name in state)


def test_each_net_is_matched_to_the_mean_of_the_others_at_the_end() -> None:
    states = _states(4)

    found = match_many(states, SPEC)

    aligned = [permute(x, SPEC, own) for x, own in zip(states, found, strict=True)]
    for position, state in enumerate(aligned):
        others = aligned[:position] + aligned[position + 1 :]
        mean = {name: sum(x[name].double() for x in others) / 3 for name in state}
        assert len(match_weights(mean, state, SPEC).objectives) == 1


def test_more_rounds_are_never_worse() -> None:
    states = _states(4)

    alike = [_pairs_alike(states, SPEC, rounds=number) for number in (1, 2, 100)]

    assert alike == sorted(alike)
    assert alike[0] < alike[-1]


def test_two_nets_are_matched_as_well_as_by_matching_them() -> None:
    first, second = _states(2)

    alike = _pairs_alike([first, second], SPEC)

    assert alike >= match_weights(first, second, SPEC).objectives[0] + 1


def test_equal_seeds_give_equal_permutations() -> None:
    found = [match_many(_states(3), SPEC, seed=seed) for seed in (0, 0, 1)]

    assert all(torch.equal(found[0][2][name], found[1][2][name]) for name in found[0][2])
    assert any(not torch.equal(found[0][2][name], found[2][2][name]) for name in found[0][2])


@pytest.mark.parametrize(("number", "rounds"), [(1, 1), (2, 0)])
def test_one_net_or_no_round_is_refused(number: int, rounds: int) -> None:
    with pytest.raises(InputError, match="nets must be at least 2 and rounds at least 1, got"):
        match_many(_states(number), SPEC, rounds=rounds)
