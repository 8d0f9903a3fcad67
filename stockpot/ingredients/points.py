"""The hyperparameters of a sweep's ingredients: a random, Sobol, grid or listed search.

The points of a smaller sweep are the first points of a larger one, so that enlarging a sweep trains
only the new ingredients.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stockpot.errors import InputError
from stockpot.seeding import derive_seed

Value = float | str
Point = dict[str, Value]


@dataclass(frozen=True, slots=True)
class _Range:
    """Numbers between two, both included."""

    low: float
    high: float

    def bounds(self) -> tuple[float, float]:
        """Return the lowest and the highest value."""
        return self.low, self.high

    def is_whole(self) -> bool:
        """Whether all values are whole numbers."""
        return False


@dataclass(frozen=True, slots=True)
class Uniform(_Range):
    """Uniform in [low, high]."""

    def __post_init__(self) -> None:
        _check_interval("uniform", self.low, self.high)

    def at(self, position: float) -> float:
        """Map a position in [0, 1) to a value."""
        return min(self.low + position * (self.high - self.low), self.high)  # it may be rounded up


@dataclass(frozen=True, slots=True)
class LogUniform(_Range):
    """Uniform in the logarithm between low and high, both positive."""

    def __post_init__(self) -> None:
        _check_interval("log_uniform", self.low, self.high)
        if self.low <= 0:
            raise InputError(f"log_uniform: both ends must be > 0, got {self.low}")

    def at(self, position: float) -> float:
        """Map a position in [0, 1) to a value."""
        value = float(self.low * (self.high / self.low) ** position)
        return min(value, self.high)  # it may be rounded up


@dataclass(frozen=True, slots=True)
class Integer(_Range):
    """A whole number in [low, high]."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise InputError(f"integer: low must be <= high, got {self.low} and {self.high}")

    def at(self, position: float) -> int:
        """Map a position in [0, 1) to a value."""
        return self.low + math.floor(position * (self.high - self.low + 1))

    def is_whole(self) -> bool:
        """Whether all values are whole numbers."""
        return True

    def values(self) -> tuple[float, ...]:
        """List all values, for a grid."""
        return tuple(range(self.low, self.high + 1))


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few numbers or names, with equal probabilities."""

    choices: tuple[Value, ...]

    def bounds(self) -> tuple[float, float]:
        """Return the lowest and the highest number."""
        numbers = [float(value) for value in self.choices]
        return min(numbers), max(numbers)

    def is_whole(self) -> bool:
        """Whether all values are whole numbers."""
        return all(float(value).is_integer() for value in self.choices)

    def at(self, position: float) -> Value:
        """Map a position in [0, 1) to a value."""
        return self.choices[math.floor(position * len(self.choices))]

    def values(self) -> tuple[Value, ...]:
        """List all values, for a grid."""
        return self.choices


@dataclass(frozen=True, slots=True)
class Constant:
    """One value for all points; not a dimension of a search, so adding one changes no draws."""

    value: Value

    def at(self, _position: float) -> Value:
        """Return the value."""
        return self.value

    def values(self) -> tuple[Value, ...]:
        """Return the value alone, for a grid."""
        return (self.value,)


Drawn = Uniform | LogUniform | Integer | Choice
Distribution = Drawn | Constant


def _check_interval(kind: str, low: float, high: float) -> None:
    if not low < high:
        raise InputError(f"{kind}: low must be < high, got {low} and {high}")


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
