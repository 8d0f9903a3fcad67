"""Ingredients in memory as one matrix: a candidate soup takes one pass over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stockpot.merging.engine import merge_states
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.merging.states import StateDict


class IngredientStack:
    """The weights of M models as a matrix (M, P), float32; other tensors are stored separately.

    `merge` and `mean_of` return the same bits as the engine's merge of files, so that the score
    of a candidate is that of the soup.
    """

    def __init__(self, states: Sequence[Mapping[str, Tensor]], device: str = "cpu") -> None:
        """Flatten the float32 tensors of `states`, which have equal names and shapes."""
        # Checks names, shapes and values.
        merge_states(states, Recipe.of(linear, (1.0,) * len(states)))
        first = states[0]
        flat = [n for n, t in first.items() if t.dtype == torch.float32 and "running_" not in n]
        self._shapes = {name: first[name].shape for name in flat}
        none = torch.empty(0)  # for models without any float32 tensor
        self._rows = torch.stack(
            [torch.cat([none, *(state[name].reshape(-1) for name in flat)]) for state in states]
        ).to(device)  # (M, P)
        others = first.keys() - self._shapes.keys()
        self._others = [{name: state[name] for name in sorted(others)} for state in states]
        self._device = device
        self._prefix: tuple[int, ...] = ()
        self._prefix_sum: Tensor = self._rows[0]

    def merge(self, coefficients: Sequence[float]) -> StateDict:
        """Return the weighted average of all models.

        Models with coefficient 0 are left out; the sum must not be 0.
        """
        used = [position for position, value in enumerate(coefficients) if value != 0]
        values = [coefficients[position] for position in used]
        return self._named(linear([self._rows[p] for p in used], values), used, values)

    def mean_of(self, members: Sequence[int]) -> StateDict:
        """Return the mean of some models, summed in the order given.

        The sum of all but the last member is cached, so that each candidate for addition to the
        same soup takes one vector addition.
        """
        *prefix, last = members
        if not prefix:
            return self._named(self._rows[last] / 1.0, [last], [1.0])
        if tuple(prefix) != self._prefix:
            self._prefix, self._prefix_sum = tuple(prefix), self._sum(prefix)
        mean = (self._prefix_sum + self._rows[last]) / len(members)
        return self._named(mean, list(members), [1.0] * len(members))

    def _sum(self, members: Sequence[int]) -> Tensor:
        total = self._rows[members[0]].clone()
        for member in members[1:]:
            total += self._rows[member]
        return total

    def _named(self, row: Tensor, used: Sequence[int], coefficients: Sequence[float]) -> StateDict:
        """Split a flat vector (P,) into named views and add the other tensors."""
        pieces = torch.split(row, [shape.numel() for shape in self._shapes.values()])
        named = {
            name: piece.view(shape)
            for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)
        }
        if self._others[0]:
            merged = merge_states(
                [self._others[p] for p in used], Recipe.of(linear, tuple(coefficients))
            )
            named |= {name: tensor.to(self._device) for name, tensor in merged.items()}
        return named
