"""The hyperparameters of a sweep's ingredients: a random, Sobol, grid or listed search.

The points of a smaller sweep are the first points of a larger one, so that enlarging a sweep trains
only the new ingredients.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence

from stockpot.distributions.values import Constant, Distribution, LogUniform, Uniform, Value
from stockpot.errors import InputError
from stockpot.seeding import derive_seed

Point = dict[str, Value]


def available(
    search: str, space: Mapping[str, Distribution], listed: Sequence[Point]
) -> int | None:
    """Return the number of points that a search has; None if it is unlimited.

    Raises:
        InputError: the search does not fit the space, or points are listed for another search.
    """
    if search == "list":
        unknown = sorted({name for point in listed for name in point} - {*space, "seed"})
        if unknown:
            raise InputError(f"list: unknown hyperparameters {unknown}; choose from {[*space]}")
        if not listed:
            raise InputError("list: must name at least one ingredient's hyperparameters, got none")
        return len(listed)
    if listed:
        raise InputError(f"list: is only for search 'list', got search {search!r}")
    return math.prod(len(axis) for axis in _axes(space)) if search == "grid" else None


def plan_points(
    search: str,
    space: Mapping[str, Distribution],
    listed: Sequence[Point],
    size: int | None,
    seed: int,
) -> list[Point]:
    """Draw the hyperparameters of each ingredient.

    Args:
        search: random, sobol, grid or list; `soup` begins as sobol.
        space: a distribution per hyperparameter.
        listed: for search `list`: per point, the values that differ from the first of the space.
        size: number of points; None for all of a grid or list.
        seed: of the random and Sobol searches; if the space has no `seed`, each ingredient gets
            its own from this one and its number.
    """
    dimensions = sum(not isinstance(axis, Constant) for axis in space.values())
    match search:
        case "random":
            points = _at(space, _random_positions(dimensions, size or 0, seed))
        case "sobol":
            points = _at(space, _sobol_positions(dimensions, size or 0, seed))
        case "grid":
            points = [
                dict(zip(space, values, strict=True)) for values in itertools.product(*_axes(space))
            ]
        case "list":
            fixed = {name: distribution.at(0.0) for name, distribution in space.items()}
            points = [fixed | point for point in listed]
        case _:
            raise InputError(f"unknown search {search!r}; choose from grid, list, random, sobol")
    return [
        {"seed": ingredient_seed(seed, number)} | point
        for number, point in enumerate(points[:size])
    ]


def _at(space: Mapping[str, Distribution], rows: Sequence[Sequence[float]]) -> list[Point]:
    shared = {name: axis.value for name, axis in space.items() if isinstance(axis, Constant)}
    drawn = {name: axis for name, axis in space.items() if name not in shared}
    return [
        {name: axis.at(position) for (name, axis), position in zip(drawn.items(), row, strict=True)}
        | shared
        for row in rows
    ]


def _axes(space: Mapping[str, Distribution]) -> list[tuple[Value, ...]]:
    """List the values of each hyperparameter, for a grid."""
    endless = [n for n, axis in space.items() if isinstance(axis, (Uniform, LogUniform))]
    if endless:
        raise InputError(f"space: a grid needs choice or integer, got an interval for {endless}")
    return [axis.values() for axis in space.values() if not isinstance(axis, (Uniform, LogUniform))]


def _random_positions(dimensions: int, size: int, seed: int) -> list[list[float]]:
    """Draw row by row, so that a larger size only appends rows."""
    generator = random.Random(derive_seed("sweep", seed))
    return [[generator.random() for _ in range(dimensions)] for _ in range(size)]


def _sobol_positions(dimensions: int, size: int, seed: int) -> list[list[float]]:
    """Draw the first points of one scrambled Sobol sequence (scipy's qmc)."""
    from scipy.stats import qmc

    # Drawing the next power of two keeps the sequence balanced and scipy silent.
    rounded = 2 ** math.ceil(math.log2(max(size, 1)))
    points = qmc.Sobol(dimensions, scramble=True, rng=seed).random(rounded)
    positions: list[list[float]] = points[:size].tolist()
    return positions


def ingredient_seed(seed: int, number: int) -> int:
    """Derive an ingredient's seed from its number, whatever the size of the sweep."""
    return derive_seed("ingredient", seed, number) % 2**31
