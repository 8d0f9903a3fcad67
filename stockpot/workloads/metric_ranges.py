"""The range of a metric's values, declared at its function.

With a highest value, the evaluation of a candidate can stop as soon as it has lost for certain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from stockpot.errors import InputError

M = TypeVar("M", bound=Callable[..., Any])
_RANGE = "value_range"


def values_in(lowest: float, highest: float) -> Callable[[M], M]:
    """Declare the range of a metric's values, one per example; the function is returned unchanged.

    Args:
        lowest: no value is lower; -inf if there is no bound.
        highest: no value is higher.

    Raises:
        InputError: the range is empty, or has no highest value.

    Example:
        >>> @values_in(-math.inf, 0)
        ... def minus_squared_error(outputs, targets):
        ...     return -(outputs - targets).square()
        >>> range_of(minus_squared_error)
        (-inf, 0)
    """
    if not lowest < highest < math.inf:
        raise InputError(
            "values_in: must have a lowest value below a finite highest one, got "
            f"({lowest}, {highest}); do not declare a range for a metric that has none"
        )

    def declare(metric: M) -> M:
        setattr(metric, _RANGE, (lowest, highest))
        return metric

    return declare


def range_of(metric: Callable[..., Any]) -> tuple[float, float] | None:
    """Return the declared range of a metric's values; None if none is declared."""
    found: tuple[float, float] | None = getattr(metric, _RANGE, None)
    return found
