"""The options of `method: concat`; importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockpot.errors import InputError
from stockpot.plugins import Option, check_options

CONCAT = "concat"
"""The merge method that puts nets side by side: of whole nets, not tensor by tensor."""

_REDUCTIONS = ("mean", "sum")


def check_concat(options: Mapping[str, Any]) -> None:
    """Check the options of `concat`.

    Raises:
        InputError: an option is unknown, or its value is.
    """
    check_options(CONCAT, {"reduce": Option(str, "mean")}, options)
    reduce = options.get("reduce", "mean")
    if reduce not in _REDUCTIONS:
        raise InputError(f"concat: reduce must be one of {[*_REDUCTIONS]}, got {reduce!r}")


def coefficients_of(num_nets: int, options: Mapping[str, Any]) -> list[float]:
    """Return the factor of each net's outputs: 1 / M, or 1 with `reduce: sum`."""
    return [1.0 if options.get("reduce") == "sum" else 1 / num_nets] * num_nets
