"""Checks of arguments that functions of the API share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, SupportsFloat, TypeVar

from stockpot.errors import InputError

T = TypeVar("T")


def list_of_models(models: Iterable[T]) -> list[T]:
    """Return models as a list.

    Raises:
        InputError: there is none, or one is neither a state dict nor a path.
    """
    if isinstance(models, Mapping | str | Path) or not isinstance(models, Iterable):
        raise InputError(
            f"models must be a list of models, got one {type(models).__name__}; put it in a list"
        )
    listed = list(models)
    if not listed:
        raise InputError("models must be at least one, got none")
    for model in listed:
        if not isinstance(model, Mapping | str | Path):
            raise InputError(
                f"models must be state dicts or paths, got {type(model).__name__}; "
                "of a torch module, give its state_dict()"
            )
    return listed


def finite_number(name: str, value: SupportsFloat | Any) -> float:
    """Return a number, or a tensor with one, as a float.

    Raises:
        InputError: it is no finite number.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several numbers
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name} must be a finite number, got {value!r}")
    return number
