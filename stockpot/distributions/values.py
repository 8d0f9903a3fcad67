"""Distributions of the values that a sweep draws and a search for coefficients tries."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stockpot.errors import InputError

Value = float | str


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
