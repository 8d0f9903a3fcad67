"""Options of merge methods that may differ between models.

A method says so in its signature: `density: PerModel = 0.2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias, get_args, get_origin

from stockpot.errors import InputError

PerModel: TypeAlias = float | Sequence[float]
"""One number for all models, or one per model, in their order."""


def is_per_model(annotation: Any) -> bool:
    """Return whether the type of an option is `PerModel`."""
    is_annotated = get_origin(annotation) is Annotated
    return bool((get_args(annotation)[0] if is_annotated else annotation) == PerModel)


def each(value: PerModel, num_models: int) -> list[float]:
    """Return the value of each model.

    Raises:
        ValueError: there is not one value per model.
    """
    if not isinstance(value, Sequence):
        return [value] * num_models
    if len(value) != num_models:
        raise ValueError(
            f"an option of single models must have {num_models} values, one per model, got "
            f"{[*value]}"
        )
    return [*value]


def check_per_model(
    method: str, name: str, values: Sequence[Any], num_models: int, able: Sequence[str]
) -> None:
    """Check the values of an option that has one per model.

    Args:
        method: the name of the method.
        name: of the option.
        values: those that are given.
        num_models: M.
        able: the options of the method that may differ between models.

    Raises:
        InputError: the option may not differ, there are not M values, or one is no number.
    """
    if name not in able:
        only = f"; only {able} may differ between models" if able else ""
        raise InputError(
            f"{method}: {name} must be one value for all models, got {[*values]}{only}"
        )
    if len(values) != num_models:
        raise InputError(
            f"{method}: {name} must be a number, or one per model ({num_models}), got {[*values]}"
        )
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{method}: {name} must be numbers, got {value!r}")
