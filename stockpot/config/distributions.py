"""What a field of the search space may hold: a distribution, or a constant."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag

from stockpot.errors import unknown_name
from stockpot.ingredients.finetuning.hyperparameters import (
    Adapter,
    AdapterInit,
    Average,
    Compiler,
    Difficulty,
    Optimizer,
    Precision,
    Sampler,
    Schedule,
)
from stockpot.ingredients.points import (
    Choice,
    Constant,
    Distribution,
    Integer,
    LogUniform,
    Names,
    Uniform,
)
from stockpot.yaml_files import Section

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


class OptimizerChoice(Section):
    """One of several optimizers."""

    choice: list[Optimizer] = Field(min_length=1)


class ScheduleChoice(Section):
    """One of several schedules of the learning rate."""

    choice: list[Schedule] = Field(min_length=1)


class PrecisionChoice(Section):
    """One of several precisions of the forward pass."""

    choice: list[Precision] = Field(min_length=1)


class AverageChoice(Section):
    """One of several averages along a run."""

    choice: list[Average] = Field(min_length=1)


class AdapterChoice(Section):
    """One of several kinds of adapter."""

    choice: list[Adapter] = Field(min_length=1)


class AdapterInitChoice(Section):
    """One of several starts of an adapter."""

    choice: list[AdapterInit] = Field(min_length=1)


class SamplerChoice(Section):
    """One of several ways to draw examples."""

    choice: list[Sampler] = Field(min_length=1)


class DifficultyChoice(Section):
    """One of several scores of examples."""

    choice: list[Difficulty] = Field(min_length=1)


class CompilerChoice(Section):
    """Compiled or not."""

    choice: list[Compiler] = Field(min_length=1)


class PatternsChoice(Section):
    """One of several lists of name patterns, each one text with spaces."""

    choice: list[str] = Field(min_length=1)


_NAME_CHOICES = (
    OptimizerChoice,
    ScheduleChoice,
    PrecisionChoice,
    AverageChoice,
    AdapterChoice,
    AdapterInitChoice,
    SamplerChoice,
    DifficultyChoice,
    CompilerChoice,
    PatternsChoice,
)
_KINDS = ("choice", "integer", "log_uniform", "uniform")


def _kind(value: Any) -> str:
    """Tell which distribution is meant, so that an error speaks of that one alone."""
    if isinstance(value, Section):
        return next(iter(type(value).model_fields))
    return next((kind for kind in _KINDS if isinstance(value, dict) and kind in value), "constant")


def _one_distribution(value: Any, kinds: Sequence[str] = _KINDS) -> Any:
    """Refuse a mapping that does not name one distribution."""
    if isinstance(value, dict) and not any(kind in value for kind in kinds):
        raise unknown_name("distribution", str(next(iter(value), "(empty)")), kinds)
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

# Names have no order to draw from but a choice.
_of_names = (Discriminator(_kind), BeforeValidator(partial(_one_distribution, kinds=("choice",))))
_Choice, _Constant = Tag("choice"), Tag("constant")
OptimizerField = Annotated[
    Annotated[OptimizerChoice, _Choice] | Annotated[Optimizer, _Constant], *_of_names
]
ScheduleField = Annotated[
    Annotated[ScheduleChoice, _Choice] | Annotated[Schedule, _Constant], *_of_names
]
PrecisionField = Annotated[
    Annotated[PrecisionChoice, _Choice] | Annotated[Precision, _Constant], *_of_names
]
AverageField = Annotated[
    Annotated[AverageChoice, _Choice] | Annotated[Average, _Constant], *_of_names
]
AdapterField = Annotated[
    Annotated[AdapterChoice, _Choice] | Annotated[Adapter, _Constant], *_of_names
]
AdapterInitField = Annotated[
    Annotated[AdapterInitChoice, _Choice] | Annotated[AdapterInit, _Constant], *_of_names
]
SamplerField = Annotated[
    Annotated[SamplerChoice, _Choice] | Annotated[Sampler, _Constant], *_of_names
]
DifficultyField = Annotated[
    Annotated[DifficultyChoice, _Choice] | Annotated[Difficulty, _Constant], *_of_names
]
CompilerField = Annotated[
    Annotated[CompilerChoice, _Choice] | Annotated[Compiler, _Constant], *_of_names
]
PatternsField = Annotated[
    Annotated[PatternsChoice, _Choice] | Annotated[str, _Constant], *_of_names
]


def as_distribution(field: Any) -> Distribution:
    """Return a field's plain distribution; a number is a choice of one, a name a constant."""
    if isinstance(field, str):
        return Constant(field)
    if isinstance(field, _NAME_CHOICES):
        return Names(tuple(field.choice))
    if isinstance(field, (int, float)):
        return Choice((field,))
    distribution: Distribution = field.distribution()
    return distribution
