"""Ingredients in memory as one matrix: a candidate soup takes one pass over it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stockpot.merging.engine import first_names, merge_states
from stockpot.merging.flat_tensors import FlatTensors
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.merging.states import StateDict
from stockpot.merging.tensor_rules import check_finite, check_shapes


class IngredientStack:
    """The weights of M models as a matrix (M, P) per dtype; other tensors are stored separately.

    `merge` and `mean_of` return the same bits as the engine's merge of files, so that the score
    of a candidate is that of the soup. The models are not copied, except for their small tensors,
    and must not be changed.
    """

    def __init__(self, states: Sequence[Mapping[str, Tensor]], device: str = "cpu") -> None:
        """Arrange the tensors of `states`.

        Raises:
            InputError: names, shapes or integer buffers differ, or a value is not finite.
        """
        self._first_of = first_names(states)
        names = dict.fromkeys(self._first_of.values())
        by_dtype: dict[torch.dtype, list[str]] = defaultdict(list)
        others: list[str] = []
        for name in names:
            tensors = [state[name] for state in states]
            check_shapes(name, [tensor.shape for tensor in tensors])
            dtypes = {tensor.dtype for tensor in tensors}
            is_float = tensors[0].is_floating_point()
            if is_float:
                check_finite(name, tensors)
            if is_float and len(dtypes) == 1 and "running_" not in name:
                by_dtype[tensors[0].dtype].append(name)
            else:
                others.append(name)
        self._flat = [FlatTensors(states, own, device) for own in by_dtype.values()]
        self._others = [{name: state[name] for name in sorted(others)} for state in states]
        merge_states(self._others, Recipe.of(linear, (1.0,) * len(states)))  # checks integers
        self._device = device
        self._prefix: tuple[int, ...] = ()
        self._sums: list[Tensor] = []  # of the prefix
        self._reused: tuple[list[Tensor], StateDict] | None = None

    def merge(self, coefficients: Sequence[float], *, reuse: bool = False) -> StateDict:
        """Return the weighted average of all models.

        Models with coefficient 0 are left out; the sum must not be 0.

        Args:
            coefficients: one per model.
            reuse: whether the result may share its memory with all results of calls with `reuse`,
                each of which overwrites the one before, so that no memory is allocated.
        """
        used = [position for position, value in enumerate(coefficients) if value != 0]
        values = [coefficients[position] for position in used]
        rows, named = self._memory(reuse=reuse)
        total = sum(values)
        if total == 0:
            raise ValueError(f"linear: coefficients must not sum to 0, got {list(values)}")
        for flat, row in zip(self._flat, rows, strict=True):
            if len(used) == 1:  # a single model is returned bit for bit
                flat.sum_into(row, used, [1.0])
            else:
                flat.sum_into(row, used, values, divisor=total)
        return self._with_others(named, used, values)

    def mean_of(self, members: Sequence[int], *, reuse: bool = False) -> StateDict:
        """Return the mean of some models, summed in the order given.

        The sum of all but the last member is cached, so that each candidate for addition to the
        same soup reads one model and the sum.

        Args:
            members: positions of models.
            reuse: as for `merge`.
        """
        *prefix, last = members
        rows, named = self._memory(reuse=reuse)
        if prefix:
            self._sum(tuple(prefix))
        for number, (flat, row) in enumerate(zip(self._flat, rows, strict=True)):
            start = self._sums[number] if prefix else None
            flat.sum_into(row, [last], [1.0], divisor=len(members), start=start)
        return self._with_others(named, list(members), [1.0] * len(members))

    def _sum(self, members: tuple[int, ...]) -> None:
        """Cache the sum of some models, continuing the cached one if it is of the first of them."""
        known = len(self._prefix)
        if not known or members[:known] != self._prefix:
            known = 0
            self._sums = self._sums or [flat.empty(flat.sum_dtype) for flat in self._flat]
        added = members[known:]
        if added:
            for flat, row in zip(self._flat, self._sums, strict=True):
                ones = [1.0] * len(added)
                flat.sum_into(row, added, ones, start=row if known else None)
        self._prefix = members

    def _memory(self, *, reuse: bool) -> tuple[list[Tensor], StateDict]:
        """Return memory for the rows of a result, and its named views."""
        if reuse and self._reused is not None:
            return self._reused
        rows = [flat.empty() for flat in self._flat]
        named: StateDict = {}
        for flat, row in zip(self._flat, rows, strict=True):
            named |= flat.named(row)
        if reuse:
            self._reused = rows, named
        return rows, named

    def _with_others(
        self, named: StateDict, used: Sequence[int], coefficients: Sequence[float]
    ) -> StateDict:
        """Add the tensors that are no weights, and the further names of tied ones."""
        merged: StateDict = {}
        if self._others[0]:
            recipe = Recipe.of(linear, tuple(coefficients))
            merged = merge_states([self._others[position] for position in used], recipe)
        merged = named | {name: tensor.to(self._device) for name, tensor in merged.items()}
        return {name: merged[first] for name, first in self._first_of.items()}
