"""Weighted changes of models and a step along them, shared by the rules of rounds.

Weights are the floating-point tensors that are not BatchNorm statistics. Sums are in float64 and
rounded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.states import State, StateDict
    from stockpot.soups.rounds.rule import Correction, Round

_STATISTICS = ("running_mean", "running_var")


def weight_names(state: State) -> list[str]:
    """List the tensors of a state dict that a gradient could change, in their order."""
    return [
        name
        for name, tensor in state.items()
        if tensor.is_floating_point() and not name.endswith(_STATISTICS)
    ]


def weighted_change(done: Round, shares: Mapping[int, float]) -> StateDict:
    """Return the sum over participants of share times change, per weight, in float64.

    A client's change is its model after the local steps minus the one it started from.
    """
    return {name: _change(done, shares, name) for name in weight_names(done.start)}


def _change(done: Round, shares: Mapping[int, float], name: str) -> Tensor:
    start = done.start[name].double()
    changes = [s * (done.models[client][name].double() - start) for client, s in shares.items()]
    return sum(changes[1:], start=changes[0])


def stepped(done: Round, direction: State, length: float, shares: Mapping[int, float]) -> StateDict:
    """Return the model after a step along a direction.

    BatchNorm statistics are pooled over the participants instead, in proportion to their shares;
    of counters the largest is taken.
    """
    from stockpot.merging.engine import merge_states
    from stockpot.merging.methods.linear import linear
    from stockpot.merging.recipe import Recipe

    moved = {
        name: (done.start[name].double() + length * direction[name].double()).to(
            done.start[name].dtype
        )
        for name in weight_names(done.start)
    }
    others = [name for name in done.start if name not in moved]
    total = sum(shares.values())
    recipe = Recipe.of(linear, tuple(share / total for share in shares.values()), {})
    states = [{name: done.models[client][name] for name in others} for client in shares]
    pooled = merge_states(states, recipe) if others else {}
    return {name: moved[name] if name in moved else pooled[name] for name in done.start}


def mean_gradient(done: Round, client: int, correction: Correction) -> StateDict:
    """Return the mean of a client's gradients over its local steps of plain SGD, in float64.

    The steps sum to path * (scale * mean gradient + offset).
    """
    change = weighted_change(done, {client: 1.0})
    found = {}
    for name, moved in change.items():
        direction = -moved / done.path
        if name in correction.offset:
            direction = direction - correction.offset[name].double()
        found[name] = direction / correction.scale
    return found


def equal_shares(done: Round) -> dict[int, float]:
    """Return 1/S for each of the S participants."""
    return dict.fromkeys(done.models, 1 / len(done.models))


def in_types(state: State, like: State) -> StateDict:
    """Round tensors to the types of the model's tensors of the same names."""
    return {name: tensor.to(like[name].dtype) for name, tensor in state.items()}


def part(memory: State, prefix: str) -> StateDict:
    """Return the tensors whose names begin with `prefix/`, without it."""
    start = f"{prefix}/"
    return {
        name.removeprefix(start): tensor
        for name, tensor in memory.items()
        if name.startswith(start)
    }


def named(prefix: str, state: State) -> StateDict:
    """Put `prefix/` before each name."""
    return {f"{prefix}/{name}": tensor for name, tensor in state.items()}


def plus(*terms: tuple[float, State]) -> StateDict:
    """Return a weighted sum of states, in float64; a name that a state lacks counts as 0 there."""
    import torch

    names: Iterable[str] = dict.fromkeys(name for _, state in terms for name in state)
    return {
        name: sum(
            (factor * state[name].double() for factor, state in terms if name in state),
            start=torch.zeros((), dtype=torch.float64),
        )
        for name in names
    }


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Require a number in (low, high].

    Raises:
        ValueError: it is not.
    """
    if not low < value <= high:
        raise ValueError(f"{name} must be in ({low:g}, {high:g}], got {value!r}")
