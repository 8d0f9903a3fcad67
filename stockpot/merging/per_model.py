"""Options of merge methods that may differ between models.

A method says so in its signature: `density: PerModel = 0.2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

PerModel: TypeAlias = float | Sequence[float]
"""One number for all models, or one per model, in their order."""


def is_per_model(annotation: Any) -> bool:
    """Return whether the annotation of an option is `PerModel`, evaluated or not."""
    return annotation in ("PerModel", "float | Sequence[float]") or annotation == PerModel


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
