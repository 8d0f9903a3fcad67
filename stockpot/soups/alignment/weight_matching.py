"""Weight matching: permute one net's units so that its weights resemble another's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from stockpot.errors import InputError
from stockpot.seeding import seeded_generator
from stockpot.soups.alignment.permutations import (
    Permutations,
    Spec,
    check_spec,
    identity_permutations,
    permute_tensor,
    random_permutations,
    split_axis,
)

_STATISTICS = ("running_mean", "running_var")  # determined by the weights
_TOLERANCE = 1e-12  # relative; smaller gains are rounding


@dataclass(frozen=True, slots=True)
class Matching:
    """The result of matching.

    Attributes:
        permutations: permutations of the second net.
        objectives: the sum of inner products initially and after each change.
        is_converged: whether the last sweep changed nothing.
    """

    permutations: Permutations
    objectives: tuple[float, ...]
    is_converged: bool

    @property
    def objective(self) -> float:
        """The sum of inner products of the first net's tensors and the permuted second's."""
        return self.objectives[-1]


def match_weights(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    spec: Spec,
    *,
    seed: int = 0,
    restarts: int = 1,
    sweeps: int = 100,
) -> Matching:
    """Find the permutations of `second` whose weights are nearest to those of `first`.

    Coordinate descent in float64: each permutation in turn is optimized with the others fixed,
    until a sweep changes none. Equal arguments give equal results.

    Args:
        first: the reference net.
        second: the net to permute, with the same tensors.
        spec: its permutation spec.
        seed: seed of the order within sweeps and of random starts.
        restarts: number of starts, at least 1: the first from the identity, the others from
            random permutations; the best result is returned.
        sweeps: maximum number of sweeps per start, at least 1.

    Raises:
        InputError: the spec does not fit both nets, or a number is below 1.

    Source: Ainsworth et al. 2022, Git Re-Basin, https://arxiv.org/abs/2209.04836, Algorithm 1.
    Two differences: where a name occurs twice in a tensor, its step is not exact and is undone if
    the objective decreases; running statistics are not compared.
    """
    if min(restarts, sweeps) < 1:
        raise InputError(f"match: restarts and sweeps must be at least 1, got {restarts}, {sweeps}")
    problem = _Problem(first, second, spec)
    found = [problem.descend(seed, restart, sweeps) for restart in range(restarts)]
    return max(found, key=lambda matching: matching.objective)


class _Problem:
    """Two nets whose units are to be matched."""

    def __init__(
        self, first: Mapping[str, Tensor], second: Mapping[str, Tensor], spec: Spec
    ) -> None:
        self._spec = spec
        self._sizes = check_spec(spec, first)
        _check_alike(first, second)
        names = [
            name
            for name, tensor in first.items()
            if tensor.is_floating_point() and not name.endswith(_STATISTICS)
        ]
        # Of each permutation, the axes that it applies to: (tensor, number of the axis).
        self._axes: dict[str, list[tuple[str, int]]] = {named: [] for named in self._sizes}
        for name in names:
            for dim, axis in enumerate(spec[name]):
                if axis is not None:
                    self._axes[split_axis(axis)[0]].append((name, dim))
        self._first = {name: first[name].detach().cpu().double() for name in names}
        self._second = {name: second[name].detach().cpu().double() for name in names}
        scale = sum(float(self._first[name].norm() * self._second[name].norm()) for name in names)
        self._tolerance = _TOLERANCE * scale

    def descend(self, seed: int, restart: int, sweeps: int) -> Matching:
        """Optimize one permutation after the other until a sweep changes none."""
        generator = seeded_generator(seed, "weight matching", restart)
        permutations = identity_permutations(self._sizes)
        if restart:
            permutations = random_permutations(self._sizes, generator)
        similarities = self._similarities(list(self._first), permutations)
        objectives = [math.fsum(similarities.values())]
        for _ in range(sweeps):
            before = len(objectives)
            order = torch.randperm(len(self._sizes), generator=generator).tolist()
            for named in [list(self._sizes)[position] for position in order]:
                if self._improve(named, permutations, similarities):
                    objectives.append(math.fsum(similarities.values()))
            if len(objectives) == before:
                return Matching(permutations, tuple(objectives), is_converged=True)
        return Matching(permutations, tuple(objectives), is_converged=False)

    def _improve(
        self, named: str, permutations: dict[str, Tensor], similarities: dict[str, float]
    ) -> bool:
        """Optimize one permutation; return whether the objective increased."""
        touched = list(dict.fromkeys(name for name, _ in self._axes[named]))
        size = self._sizes[named]
        products = (self._products(*axis, size, permutations) for axis in self._axes[named])
        costs = sum(products, torch.zeros(size, size, dtype=torch.float64))  # (n, n)
        chosen = torch.from_numpy(linear_sum_assignment(costs.numpy(), maximize=True)[1])
        candidate = {**permutations, named: chosen}
        found = self._similarities(touched, candidate)
        gain = math.fsum(found[name] - similarities[name] for name in touched)
        if gain <= self._tolerance:
            return False
        permutations[named] = chosen
        similarities.update(found)
        return True

    def _products(self, name: str, dim: int, size: int, permutations: Permutations) -> Tensor:
        """Return inner products (n, n) of units of the first net with units of the second."""
        axes = self._spec[name]
        others = (*axes[:dim], None, *axes[dim + 1 :])
        placed = permute_tensor(self._second[name], others, permutations)
        rows = [x.movedim(dim, 0).reshape(size, -1) for x in (self._first[name], placed)]
        return rows[0] @ rows[1].T

    def _similarities(self, names: Iterable[str], permutations: Permutations) -> dict[str, float]:
        """Return the inner product with the first net's tensor, for each name."""

        def similarity(name: str) -> float:
            placed = permute_tensor(self._second[name], self._spec[name], permutations)
            return float((self._first[name] * placed).sum())

        return {name: similarity(name) for name in names}


def _check_alike(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in net.items()} for net in (first, second)
    ]
    for name in shapes[0] | shapes[1]:
        one, other = (of_net.get(name, "none") for of_net in shapes)
        if one != other:
            raise InputError(
                f"match: tensor {name!r} must have one shape in both nets, got {one} and {other}"
            )
