"""The search space of a sweep: a distribution, or a constant, per hyperparameter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from stockpot.config.section import Section
from stockpot.errors import unknown_name
from stockpot.search import Choice, Distribution, Integer, LogUniform, Uniform

Interval = tuple[float, float]


class LogUniformField(Section):
    """Uniform in the logarithm, between two positive numbers."""

    log_uniform: Interval

    def distribution(self) -> Distribution:
        """Return the plain distribution."""
        return LogUniform(*self.log_uniform)


class UniformField(Section):
    """Uniform between two numbers."""

    uniform: Interval

    def distribution(self) -> Distribution:
        """Return the plain distribution."""
        return Uniform(*self.uniform)


class IntegerField(Section):
    """A whole number between two, both included."""

    integer: tuple[int, int]

    def distribution(self) -> Distribution:
        """Return the plain distribution."""
        return Integer(*self.integer)


class ChoiceField(Section):
    """One of the values of a list."""

    choice: list[float] = Field(min_length=1)

    def distribution(self) -> Distribution:
        """Return the plain distribution."""
        return Choice(tuple(self.choice))


_KINDS = ("choice", "integer", "log_uniform", "uniform")


def _kind(value: Any) -> str:
    """Tell which distribution is meant, so that an error speaks of that one alone."""
    if isinstance(value, (LogUniformField, UniformField, IntegerField, ChoiceField)):
        return next(iter(type(value).model_fields))
    return next((kind for kind in _KINDS if isinstance(value, dict) and kind in value), "constant")


def _one_distribution(value: Any) -> Any:
    """Refuse a mapping that does not name one distribution."""
    if isinstance(value, dict) and not any(kind in value for kind in _KINDS):
        raise unknown_name("distribution", str(next(iter(value), "(empty)")), _KINDS)
    if isinstance(value, dict) and len(value) > 1:
        raise ValueError(f"must name one distribution, got {[*value]}")
    return value


HyperparameterField = Annotated[
    Annotated[LogUniformField, Tag("log_uniform")]
    | Annotated[UniformField, Tag("uniform")]
    | Annotated[IntegerField, Tag("integer")]
    | Annotated[ChoiceField, Tag("choice")]
    | Annotated[float, Tag("constant")],
    Discriminator(_kind),
    BeforeValidator(_one_distribution),
]


class SpaceSection(Section):
    """What the sweep draws each ingredient's hyperparameters from."""

    learning_rate: HyperparameterField = 1e-3
    weight_decay: HyperparameterField = 0.0
    epochs: HyperparameterField = 10
    batch_size: HyperparameterField = 32
    label_smoothing: HyperparameterField = 0.0
    mixup: HyperparameterField = Field(0.0, description="alpha of the Beta distribution; 0 is off")
    augmentation: HyperparameterField = Field(0.0, description="strength in [0, 1]")
    seed: HyperparameterField | None = Field(
        None, description="null: the ingredient's own, from the experiment's seed and its number"
    )

    @model_validator(mode="before")
    @classmethod
    def _something_is_searched(cls, content: Any) -> Any:
        if content == {}:
            raise ValueError("is empty; name at least one hyperparameter")
        return content

    @field_validator("*")
    @classmethod
    def _values_are_possible(cls, field: Any, info: Any) -> Any:
        if field is not None:
            _check_range(info.field_name, _as_distribution(field))
        return field

    @staticmethod
    def check_point(point: Mapping[str, float]) -> None:
        """Refuse hyperparameters, of which one has a value that it cannot have."""
        for name, value in point.items():
            try:
                _check_range(name, Choice((value,)))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

    def distributions(self) -> dict[str, Distribution]:
        """Return a plain distribution per hyperparameter, constants as a choice of one."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: _as_distribution(v) for name, v in fields.items() if v is not None}


def _as_distribution(field: Any) -> Distribution:
    return Choice((field,)) if isinstance(field, (int, float)) else field.distribution()


# (bracket, lowest, highest, bracket, whole numbers only)
_RANGES: dict[str, tuple[str, float, float, str, bool]] = {
    "learning_rate": ("(", 0, math.inf, ")", False),
    "weight_decay": ("[", 0, math.inf, ")", False),
    "epochs": ("[", 1, math.inf, ")", True),
    "batch_size": ("[", 1, math.inf, ")", True),
    "label_smoothing": ("[", 0, 1, ")", False),
    "mixup": ("[", 0, math.inf, ")", False),
    "augmentation": ("[", 0, 1, "]", False),
    "seed": ("[", 0, 2**32, ")", True),
}


def _check_range(name: str, distribution: Distribution) -> None:
    """Refuse a distribution that holds a value the hyperparameter cannot have."""
    opening, lowest, highest, closing, whole = _RANGES[name]
    low, high = distribution.bounds()
    found = f"got {low:g}" if low == high else f"got {low:g} to {high:g}"
    above = low > lowest if opening == "(" else low >= lowest
    below = high < highest if closing == ")" else high <= highest
    if not (above and below):
        raise ValueError(f"must be in {opening}{lowest:g}, {highest:g}{closing}, {found}")
    if whole and not distribution.is_whole():
        raise ValueError(f"must be whole numbers, {found}; use integer or choice")
