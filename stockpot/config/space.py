"""The search space of a sweep: a distribution, or a constant, per hyperparameter."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

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
    if isinstance(value, dict):
        kinds = [kind for kind in _KINDS if kind in value]
        if not kinds:
            raise unknown_name("distribution", next(iter(value), "(empty)"), _KINDS)
        return kinds[0]
    return "constant"


HyperparameterField = Annotated[
    Annotated[LogUniformField, Tag("log_uniform")]
    | Annotated[UniformField, Tag("uniform")]
    | Annotated[IntegerField, Tag("integer")]
    | Annotated[ChoiceField, Tag("choice")]
    | Annotated[float, Tag("constant")],
    Discriminator(_kind),
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

    def distributions(self) -> dict[str, Distribution]:
        """Return a plain distribution per hyperparameter, constants as a choice of one."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: _as_distribution(v) for name, v in fields.items() if v is not None}


def _as_distribution(field: Any) -> Distribution:
    return Choice((field,)) if isinstance(field, (int, float)) else field.distribution()


# (lowest allowed, highest allowed, is the lowest itself allowed, whole numbers only)
_RANGES: dict[str, tuple[float, float, bool, bool]] = {
    "learning_rate": (0.0, float("inf"), False, False),
    "weight_decay": (0.0, float("inf"), True, False),
    "epochs": (1, float("inf"), True, True),
    "batch_size": (1, float("inf"), True, True),
    "label_smoothing": (0.0, 1 - 1e-9, True, False),
    "mixup": (0.0, float("inf"), True, False),
    "augmentation": (0.0, 1.0, True, False),
    "seed": (0, 2**32 - 1, True, True),
}


def _check_range(name: str, distribution: Distribution) -> None:
    """Refuse a distribution that holds a value the hyperparameter cannot have."""
    lowest, highest, lowest_allowed, whole = _RANGES[name]
    low, high = distribution.bounds()
    if low < lowest or high > highest or (low == lowest and not lowest_allowed):
        bracket = "[" if lowest_allowed else "("
        raise ValueError(
            f"values must be in {bracket}{lowest:g}, {highest:g}], got {low} to {high}"
        )
    if whole and not distribution.is_whole():
        raise ValueError("values must be whole numbers; use integer or choice")
