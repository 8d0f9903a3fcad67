"""Values of a merge file that differ between tensors: over the layers' depth, or by name."""

from __future__ import annotations

import math
import sys
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from stockpot.errors import InputError


def _with_value(rule: dict[Any, Any]) -> dict[Any, Any]:
    if "value" not in rule:
        raise ValueError(f"a filter must have a value, got {rule}")
    value, wanted = rule["value"], rule.get("filter", "*")
    is_text = isinstance(value, str)
    if not is_text and not _are_numbers(value if isinstance(value, list) else [value]):
        raise ValueError(
            f"the value of a filter must be one value, or numbers over depth, got {value!r}"
        )
    if not isinstance(wanted, str):
        raise ValueError(  # noqa: TRY004 (pydantic expects it)
            f"a filter must be a part of names, got {wanted!r}"
        )
    return rule


def _with_number(rule: dict[Any, Any]) -> dict[Any, Any]:
    if isinstance(rule["value"], bool | str):
        raise ValueError(  # noqa: TRY004 (pydantic expects it)
            f"the value of a filter must be a number, got {rule['value']!r}"
        )
    return rule


def _are_numbers(values: list[Any]) -> bool:
    return bool(values) and all(
        isinstance(value, int | float) and abs(value) <= sys.float_info.max for value in values
    )


Rule = Annotated[dict[Literal["filter", "value"], Any], AfterValidator(_with_value)]
"""A value for tensors whose names contain the filter; without one, for all others."""

Anchors = Annotated[list[float], Field(min_length=1)]
"""Numbers over the layers' depth."""

Rules = Annotated[list[Rule], Field(min_length=1)]

Varying = (
    float
    | Anchors
    | Annotated[list[Annotated[Rule, AfterValidator(_with_number)]], Field(min_length=1)]
)
"""A number; or a list of numbers over the layers' depth; or a list of filter and value."""

Scalar = int | float | bool | str
Value = Scalar | Anchors | Rules
"""A value of an option: one for all tensors; or numbers over depth; or by parts of names."""


def value_at(value: Value, name: str, depth: float) -> Scalar:
    """Evaluate a value of a merge file for one tensor.

    Args:
        value: a plain value; or a list of numbers, interpolated linearly over depth; or rules, of
            which the first applies whose filter is part of the name (`*` is a wildcard).
        name: the tensor's name.
        depth: of its layer, 0 for the first and 1 for the last.

    Raises:
        InputError: no rule applies to this tensor.
    """
    if not isinstance(value, list):
        return value
    if value and isinstance(value[0], dict):
        for rule in value:
            assert isinstance(rule, dict)
            if fnmatchcase(name, f"*{rule.get('filter', '*')}*"):
                return value_at(rule["value"], name, depth)
        raise InputError(
            f"tensor {name!r}: no filter of {value} matches it; end with a rule without a filter"
        )
    anchors = [float(anchor) for anchor in value if not isinstance(anchor, dict)]
    place = depth * (len(anchors) - 1)
    left = min(math.floor(place), len(anchors) - 2) if len(anchors) > 1 else 0
    right = min(left + 1, len(anchors) - 1)
    return anchors[left] + (place - left) * (anchors[right] - anchors[left])
