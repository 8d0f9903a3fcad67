"""A merge as a function of its coefficients: the weights, and the gradient back to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe, RecipeOf

State = dict[str, Tensor]

Rows = Mapping[str, Sequence[float]]
"""Name of a group of tensors -> its coefficients (M,)."""

GROUPS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "model": lambda name: "model",  # noqa: ARG005 (all tensors are one group)
        "layer": lambda name: name.rpartition(".")[0] or name,  # the module that holds it
        "tensor": lambda name: name,
    }
)
"""The group of a tensor by its name, for each value of `per` in params.yaml."""


def recipes(method: str, per: str, rows: Rows) -> RecipeOf:
    """Return how each tensor is merged: by the coefficients of its group.

    Args:
        method: a merge method that takes coefficients.
        per: one of `GROUPS`.
        rows: the coefficients of each group.
    """

    def recipe_of(name: str) -> Recipe:
        row = tuple(rows[GROUPS[per](name)])
        # Statistics are means of the models', which all coefficients of 0 do not define.
        is_statistic = "running_" in name
        return Recipe(method, (1.0,) * len(row) if is_statistic and not sum(row) else row)

    return recipe_of


class Mixture:
    """M models in memory, merged by coefficients of which each group of tensors has M.

    Its weights have the bits that the engine writes for the same coefficients. The gradient
    needs no graph over M models: one backward pass through the merged weights gives
    G = dL/dtheta, and dL/dcoefficient_i is the inner product of G with what coefficient i
    multiplies.

    Attributes:
        groups: the names of the L groups.
        shape: of a matrix of coefficients, (L, M).
    """

    def __init__(
        self,
        states: Sequence[Mapping[str, Tensor]],
        per: str,
        base: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Hold the models.

        Args:
            states: M state dicts on one device.
            per: what has coefficients of its own, one of `GROUPS`.
            base: what the models were fine-tuned from: with it, coefficients multiply task
                vectors that are added to it; without, models.
        """
        self._states, self._per, self._base = states, per, base
        self._method = "linear" if base is None else "task_arithmetic"
        self.groups = tuple(dict.fromkeys(GROUPS[per](name) for name in states[0]))
        self.shape = (len(self.groups), len(states))

    def rows(self, coefficients: Tensor) -> dict[str, tuple[float, ...]]:
        """Return the coefficients (L, M) as plain numbers by group."""
        return dict(zip(self.groups, map(tuple, coefficients.tolist()), strict=True))

    def weights(self, rows: Rows) -> State:
        """Merge the models."""
        return merge_states(self._states, recipes(self._method, self._per, rows), self._base)

    def pull_back(self, gradient: Mapping[str, Tensor]) -> Tensor:
        """Return the gradient of the coefficients (L, M), float64, from that of the weights.

        Args:
            gradient: dL/dtheta of the merged weights by name; what it lacks counts as 0.
        """
        pulled = torch.zeros(self.shape, dtype=torch.float64)
        for name, slope in gradient.items():
            row = pulled[self.groups.index(GROUPS[self._per](name))]
            slope_wide = slope.double()
            for model, state in enumerate(self._states):
                part = state[name] if self._base is None else state[name] - self._base[name]
                row[model] += float((slope_wide * part).sum())
        return pulled
