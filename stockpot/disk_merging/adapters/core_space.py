"""Core Space: LoRA changes merged as small matrices in common bases (Panariello et al. 2025).

https://arxiv.org/abs/2509.17786
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe, RecipeOf
from stockpot.storage.weights.adapters import Adapter

_NOISE = 1e-12  # of the largest singular value; smaller ones are rounding errors


@dataclass(frozen=True, slots=True)
class Cores:
    """The changes of one module by M adapters in common bases: scaling * B A = U core V.

    Attributes:
        u: orthonormal columns (out, P) that span all B.
        v: orthonormal rows (Q, in) that span all A.
        cores: M matrices (P, Q), 0 of an adapter that does not change the module; float64.
        shape_of_a: of a single row of A, (in, ...).
        shape_of_b: the further axes of B, of size 1.
    """

    u: Tensor
    v: Tensor
    cores: Sequence[Tensor]
    shape_of_a: Sequence[int]
    shape_of_b: Sequence[int]

    def factors(self, core: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors A (r, in, ...) and B (out, r, ...) of U core V."""
        left, right = (
            (self.u, core @ self.v) if len(core) < len(self.v) else (self.u @ core, self.v)
        )
        return right.reshape(-1, *self.shape_of_a), left.reshape(*left.shape, *self.shape_of_b)


def cores_of(module: str, adapters: Sequence[Adapter]) -> Cores:
    """Return the changes of a module in common bases.

    The bases are the singular vectors of all B next to each other, and of all A below each other.

    Args:
        module: a module that one of the adapters changes.
        adapters: adapters of one base, whose changes of the module fit one weight.

    Raises:
        InputError: a factor or scaling is not finite.

    Source: section 4 and equation 6; ranks may differ. Directions in which no adapter changes
    anything are left out.
    """
    found: list[tuple[Tensor, Tensor] | None] = []
    shapes: tuple[Sequence[int], Sequence[int]] = ((), ())
    for adapter in adapters:
        change = adapter.changes.get(module)
        if change is None:
            found.append(None)
            continue
        a, b = (adapter.weights.read(name).double() for name in (change.a, change.b))
        shapes = (a.shape[1:], b.shape[2:])
        found.append((a.flatten(1), b.flatten(1) * change.scaling))
    known = [factors for factors in found if factors is not None]
    if not all(torch.isfinite(factor).all() for factors in known for factor in factors):
        raise InputError(f"module {module!r}: a factor or scaling is not finite")
    u = _basis(torch.cat([b for _, b in known], dim=1))  # (out, P)
    v = _basis(torch.cat([a for a, _ in known]).T).T  # (Q, in)
    none = u.new_zeros(u.shape[1], len(v))
    cores = [none if f is None else (u.T @ f[1]) @ (f[0] @ v.T) for f in found]
    return Cores(u, v, cores, *shapes)


def merge_cores(
    cores_by_name: Mapping[str, Cores], recipe: Recipe | RecipeOf
) -> dict[str, tuple[Tensor, Tensor]]:
    """Merge the changes of modules in their common bases.

    Args:
        cores_by_name: the changes, by the names of weights.
        recipe: the recipe; its coefficients are those of the adapters, and the base is 0.

    Returns:
        The factors A and B of each merged change, float64.

    Raises:
        InputError: the method cannot merge them.
    """
    num_adapters = len(next(iter(cores_by_name.values())).cores)
    states = [
        {name: own.cores[place] for name, own in cores_by_name.items()}
        for place in range(num_adapters)
    ]
    base = {name: torch.zeros_like(core) for name, core in states[0].items()}
    merged = merge_states(states, recipe, base)
    return {name: own.factors(merged[name]) for name, own in cores_by_name.items()}


def _basis(matrix: Tensor) -> Tensor:
    """Return the left singular vectors with singular values above 0, at least one."""
    u: Tensor
    u, singular, _ = torch.linalg.svd(matrix, full_matrices=False)
    rank = int((singular > _NOISE * singular[0]).sum())
    return u[:, : max(rank, 1)]
