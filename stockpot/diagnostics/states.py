"""Uniform averages and equality of state dicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from stockpot.merging.engine import merge_states
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.merging.states import State
from stockpot.soups.preparation.finishing import Finishing

Mean: TypeAlias = Callable[[Sequence[State]], State]
"""State dicts -> their uniform average, as a soup of them is saved."""


def mean_state(states: Sequence[State]) -> dict[str, Tensor]:
    """Return the uniform average of state dicts, with pooled BatchNorm statistics."""
    return merge_states(list(states), Recipe.of(linear, (1.0,) * len(states)))


def finished_mean(finishing: Finishing) -> Mean:
    """Return what makes uniform averages with the statistics that a soup gets."""
    return lambda states: finishing(mean_state(states), states, (1.0,) * len(states))


def are_equal(first: State, second: State) -> bool:
    """Report whether two state dicts have the same names and equal tensors, of one dtype."""
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )
