"""LiNeS: scaling of a merged task vector, linear over depth (Wang et al. 2025).

https://arxiv.org/abs/2410.17146
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

LINES: Mapping[str, float] = MappingProxyType({"lines_alpha": 1.0, "lines_beta": 0.0})
"""Options of every method that needs a base, in addition to its own, with their defaults."""


def check_lines(method: str, options: Mapping[str, Any]) -> None:
    """Require finite numbers.

    Raises:
        InputError: alpha or beta is none.
    """
    for name in LINES.keys() & options.keys():
        value = options[name]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            raise InputError(f"{method}: {name} must be a finite number, got {value!r}")


def scaled(merged: Tensor, base: Tensor | None, factor: float) -> Tensor:
    """Scale the difference of a merged tensor from the base's, by alpha + beta l / (L - 1).

    Source: the paper's scaling of the l-th (from 0) of L layers; a factor of 1 keeps the bits.
    """
    if base is None or factor == 1:
        return merged
    return base + factor * (merged - base)
