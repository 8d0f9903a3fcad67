"""Fields of params.yaml that are drawn or searched: a distribution, or a constant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    WithJsonSchema,
    create_model,
)

from stockpot.distributions.values import Choice, Drawn, Integer, LogUniform, Uniform
from stockpot.errors import unknown_name
from stockpot.yaml_files import Section


class LogUniformField(Section):
    """Uniform in the logarithm, between two positive numbers."""

    log_uniform: tuple[float, float]


class UniformField(Section):
    """Uniform between two numbers."""

    uniform: tuple[float, float]


class IntegerField(Section):
    """An integer between two, both included."""

    integer: tuple[int, int]


class ChoiceField(Section):
    """One of a list of numbers."""

    choice: list[float] = Field(min_length=1)


class NamesField(Section):
    """One of a list of texts."""

    choice: list[str] = Field(min_length=1)


class ValuesField(Section):
    """One of a list of numbers, texts, or true and false."""

    choice: list[bool | int | float | str] = Field(min_length=1)


_KINDS: Mapping[str, Callable[..., Drawn]] = {
    "choice": lambda *choices: Choice(choices),
    "integer": Integer,
    "log_uniform": LogUniform,
    "uniform": Uniform,
}


def number_field(number: Any) -> Any:
    """Return the type of a field for a number, a distribution of numbers included.

    Args:
        number: type of one number, with its range, for the JSON schema; this type does not check
            the range, since distributions have to be checked too.
    """
    schema = TypeAdapter(number).json_schema()
    constant = Annotated[float, WithJsonSchema(schema), Tag("constant")]
    return Annotated[
        Annotated[LogUniformField, Tag("log_uniform")]
        | Annotated[UniformField, Tag("uniform")]
        | Annotated[IntegerField, Tag("integer")]
        | Annotated[ChoiceField, Tag("choice")]
        | constant,
        Discriminator(_kind),
        BeforeValidator(_one_distribution),
    ]


def value_field() -> Any:
    """Return the type of a field for any plain value, a distribution of such included."""
    return Annotated[
        Annotated[LogUniformField, Tag("log_uniform")]
        | Annotated[UniformField, Tag("uniform")]
        | Annotated[IntegerField, Tag("integer")]
        | Annotated[ValuesField, Tag("choice")]
        | Annotated[bool | int | float | str, Tag("constant")],
        Discriminator(_kind),
        BeforeValidator(_one_distribution),
    ]


def names_field(field: str, name: Any) -> Any:
    """Return the type of a field for a name, a choice among names included.

    Args:
        field: what the field is called.
        name: a Literal type; or str for any text.
    """
    choice = NamesField if name is str else _choice_of(field, name)
    return Annotated[
        Annotated[choice, Tag("choice")] | Annotated[name, Tag("constant")],
        Discriminator(_kind),
        BeforeValidator(partial(_one_distribution, kinds=("choice",))),  # names have no order
    ]


def as_distribution(field: Section | float) -> Drawn:
    """Return the distribution of a field's value; a number is a choice of one."""
    if not isinstance(field, Section):
        return Choice((field,))
    ((kind, values),) = field
    return _KINDS[kind](*values)


def _choice_of(field: str, name: Any) -> type[NamesField]:
    return create_model(
        f"{field.title().replace('_', '')}Choice",
        __base__=NamesField,
        __doc__=f"One of several values of `{field}`.",
        choice=(list[name], Field(min_length=1)),
    )


def _kind(value: Any) -> str:
    """Name the distribution that is meant, so that an error is about that one alone."""
    if isinstance(value, Section):
        return next(iter(type(value).model_fields))
    return next((kind for kind in _KINDS if isinstance(value, dict) and kind in value), "constant")


def _one_distribution(value: Any, kinds: Iterable[str] = _KINDS) -> Any:
    """Refuse a mapping that does not name one distribution."""
    if isinstance(value, dict) and not any(kind in value for kind in kinds):
        raise unknown_name("distribution", str(next(iter(value), "(empty)")), kinds)
    if isinstance(value, dict) and len(value) > 1:
        raise ValueError(f"must name one distribution, got {[*value]}")
    return value
