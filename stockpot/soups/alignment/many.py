"""Weight matching of more than two nets, each to the mean of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.seeding import derive_seed, seeded_generator
from stockpot.soups.alignment.permutations import (
    Permutations,
    Spec,
    check_spec,
    compose,
    identity_permutations,
    permute,
)
from stockpot.soups.alignment.weight_matching import match_weights


def match_many(
    states: Sequence[Mapping[str, Tensor]],
    spec: Spec,
    *,
    seed: int = 0,
    rounds: int = 100,
) -> list[Permutations]:
    """Find permutations that minimize the distances between the weights of all nets.

    In random order, each net is matched to the current mean of the others, until a round changes
    none. The sum of inner products over all pairs never decreases.

    Args:
        states: M nets with the same tensors, at least 2.
        spec: their permutation spec.
        seed: seed of the orders.
        rounds: maximum number of rounds, at least 1.

    Returns:
        The permutations of each net, in their order.

    Raises:
        InputError: the spec does not fit all nets, there is only one net, or no round.

    Source: Ainsworth et al. 2022, https://arxiv.org/abs/2209.04836, Algorithm 3 (MergeMany).
    """
    if len(states) < 2 or rounds < 1:
        raise InputError(
            f"match: nets must be at least 2 and rounds at least 1, got {len(states)}, {rounds}"
        )
    aligned = [dict(state) for state in states]
    permutations = [identity_permutations(check_spec(spec, state)) for state in states]
    generator = seeded_generator(seed, "match many")
    for number in range(rounds):
        is_changed = False
        for position in torch.randperm(len(states), generator=generator).tolist():
            others = aligned[:position] + aligned[position + 1 :]
            matching_seed = derive_seed(seed, "match many", number, position)
            found = match_weights(_mean(others), aligned[position], spec, seed=matching_seed)
            if len(found.objectives) > 1:
                permutations[position] = compose(permutations[position], found.permutations)
                aligned[position] = permute(aligned[position], spec, found.permutations)
                is_changed = True
        if not is_changed:
            break
    return list(permutations)


def _mean(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each tensor, in float64; matching ignores counters."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0)
        for name in states[0]
    }
