"""Uniform averages and equality of state dicts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stockpot.merging.engine import merge_states
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.merging.states import State


def mean_state(states: Sequence[State]) -> dict[str, Tensor]:
    """Return the uniform average of state dicts, as a uniform soup has it."""
    return merge_states(list(states), Recipe.of(linear, (1.0,) * len(states)))


def are_equal(first: State, second: State) -> bool:
    """Report whether two state dicts have the same names and equal tensors, of one dtype."""
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )
