"""A merge as a differentiable function of its coefficients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from stockpot.merging.engine import StateMerger
from stockpot.merging.masks import Masks
from stockpot.merging.methods.elected_sum import elected_sum
from stockpot.merging.recipe import Recipe, RecipeOf
from stockpot.merging.sparse_masks import Mask, nonzero_mask
from stockpot.merging.states import StateDict

Rows = Mapping[str, Sequence[float]]
"""Name of a group of tensors -> its coefficients (M,)."""

Finish = Callable[
    [StateDict, Mapping[int, float], bool, Sequence[Mapping[str, Tensor]] | None], StateDict
]
"""Merged weights, shares of models by position, whether with the base, and the weights of all
models if they were trained -> weights of a soup."""

GROUPS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "model": lambda name: "model",  # noqa: ARG005 (all tensors are one group)
        "layer": lambda name: name.rpartition(".")[0] or name,  # the module of the tensor
        "tensor": lambda name: name,
    }
)
"""The group of a tensor by its name, for each value of `per` in params.yaml."""


def recipes(
    method: str,
    per: str,
    rows: Rows,
    options: Mapping[str, Any] = MappingProxyType({}),
    masks: Masks | None = None,
) -> RecipeOf:
    """Return the recipe of each tensor, with the coefficients of its group.

    Args:
        method: a merge method that takes coefficients.
        per: one of `GROUPS`.
        rows: the coefficients of each group.
        options: options of the method.
        masks: which weights may differ from 0.
    """
    return lambda name: Recipe(method, _row(name, rows[GROUPS[per](name)]), options, masks=masks)


def _row(name: str, row: Sequence[float]) -> tuple[float, ...]:
    # Statistics are averaged, which is undefined for coefficients of 0.
    is_undefined = "running_" in name and not sum(row)
    return (1.0,) * len(row) if is_undefined else tuple(row)


def used_models(rows: Rows, num_models: int, method: str) -> list[int]:
    """Return the positions of the models that any group uses; all if none does, or all vote."""
    every = range(num_models)
    if method == "elected_sum":
        return list(every)
    return [p for p in every if any(row[p] for row in rows.values())] or list(every)


def mean_shares(rows: Rows, used: Sequence[int]) -> dict[int, float]:
    """Return the mean coefficient over all groups of each used model, by its position."""
    return {place: fmean(row[place] for row in rows.values()) for place in used}


def _unchanged(
    weights: StateDict, _shares: Mapping[int, float], _with_base: bool, _trained: object
) -> StateDict:
    return weights


class Mixture:
    """M models in memory, merged with M coefficients per group of tensors.

    The weights have the same bits as those of the engine for the same coefficients. The gradient
    needs no graph over M models: one backward pass through the merged weights gives
    G = dL/dtheta, and dL/dcoefficient_i is the inner product of G with the factor of coefficient
    i.

    Attributes:
        groups: the names of the L groups.
        shape: shape (L, M) of a matrix of coefficients.
    """

    def __init__(
        self,
        states: Sequence[Mapping[str, Tensor]],
        per: str,
        base: Mapping[str, Tensor] | None = None,
        elected: Mapping[str, Any] | None = None,
        finish: Finish = _unchanged,
        masks: Sequence[Mask | None] = (),
    ) -> None:
        """Prepare the merge.

        Args:
            states: M state dicts on one device.
            per: the groups of tensors with own coefficients, one of `GROUPS`.
            base: the model that they were fine-tuned from. With it, coefficients multiply task
                vectors, which are added to it; without it, models.
            elected: options of `elected_sum`, to trim the task vectors and elect signs; None:
                they are used unchanged.
            finish: what is done to merged weights before a soup is saved, such as recalibration
                of BatchNorm statistics. Gradients take its changes as constant.
            masks: for each model the entries that `descend` may move, None for all; empty for all
                entries of all models. With a base, merges are 0 outside of all masks.
        """
        self._states, self._per, self._base = [dict(state) for state in states], per, base
        self._finish, self._masks = finish, masks or [None] * len(states)
        self._is_trained = False
        self.groups = tuple(dict.fromkeys(GROUPS[per](name) for name in states[0]))
        self.shape = (len(self.groups), len(states))
        self._method = "linear" if base is None else "task_arithmetic"
        self._vectors: list[StateDict] | None = None
        if elected is not None:
            assert base is not None, "an election is among task vectors"
            self._method, self._vectors = "elected_sum", _elected(states, base, elected)
        keeps_union = base is not None and any(mask is not None for mask in self._masks)
        self._union = _union(states) if keeps_union else {}
        self._kept: Masks | None = "union" if keeps_union else None
        self._options = elected or {}
        self._merger = StateMerger(self._states, base)

    def rows(self, coefficients: Tensor) -> dict[str, tuple[float, ...]]:
        """Return coefficients (L, M) as plain numbers by group."""
        return dict(zip(self.groups, map(tuple, coefficients.tolist()), strict=True))

    def weights(self, rows: Rows) -> StateDict:
        """Merge the models, as a soup of these coefficients is saved."""
        merged = self._merger.merge(
            recipes(self._method, self._per, rows, self._options, self._kept)
        )
        used = used_models(rows, len(self._states), self._method)
        trained = self._states if self._is_trained else None
        return self._finish(merged, mean_shares(rows, used), self._base is not None, trained)

    def pull_back(self, gradient: Mapping[str, Tensor]) -> Tensor:
        """Return the gradient of the coefficients (L, M), float64, from that of the weights.

        Args:
            gradient: dL/dtheta of the merged weights by name; 0 for missing names.
        """
        pulled = torch.zeros(self.shape, dtype=torch.float64)
        for name, slope in gradient.items():
            row = pulled[self.groups.index(GROUPS[self._per](name))]
            slope_wide = slope.double()
            if name in self._union:
                slope_wide = slope_wide.where(self._union[name], 0)
            for model in range(len(self._states)):
                row[model] += float((slope_wide * self._part(model, name)).sum())
        return pulled

    def descend(self, gradient: Mapping[str, Tensor], rates: Tensor) -> None:
        """Move the models against a gradient of the merged weights; without a base.

        Args:
            gradient: dL/dtheta of the merged weights by name; tensors without one do not move.
            rates: for each group and model, the factor on the gradient; (L, M).
        """
        if not rates.any():
            return
        self._is_trained = True
        for name, slope in gradient.items():
            row = rates[self.groups.index(GROUPS[self._per](name))].tolist()
            for state, rate, mask in zip(self._states, row, self._masks, strict=True):
                step = slope if mask is None or name not in mask else slope * mask[name]
                state[name] = state[name] - rate * step
        self._merger = StateMerger(self._states, self._base)  # which knows nothing of the old ones

    def _part(self, model: int, name: str) -> Tensor:
        """Return the factor of a model's coefficient."""
        if self._vectors is not None:
            return self._vectors[model][name]
        tensor = self._states[model][name]
        return tensor if self._base is None else tensor - self._base[name]


def _union(states: Sequence[Mapping[str, Tensor]]) -> Mask:
    """Return the weights that are not 0 in some model."""
    masks = [nonzero_mask(state) for state in states]
    return {name: torch.stack([mask[name] for mask in masks]).any(dim=0) for name in masks[0]}


def _elected(
    states: Sequence[Mapping[str, Tensor]],
    base: Mapping[str, Tensor],
    options: Mapping[str, Any],
) -> list[StateDict]:
    """Return the task vectors after trimming and election of signs by `elected_sum`."""
    names = [n for n, t in base.items() if t.is_floating_point() and "running_" not in n]
    zeros = {name: torch.zeros_like(base[name]) for name in names}
    vectors = [{name: state[name] - base[name] for name in names} for state in states]
    merger = StateMerger(vectors, zeros)
    alone = torch.eye(len(states)).tolist()  # all vote
    return [merger.merge(Recipe.of(elected_sum, tuple(row), options)) for row in alone]
