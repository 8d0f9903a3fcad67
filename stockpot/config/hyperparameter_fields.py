"""Fields of params.yaml that are derived from the hyperparameters of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from pydantic import Field, create_model

from stockpot.distributions.values import Choice, Drawn
from stockpot.errors import unknown_name
from stockpot.ingredients.finetuning.field_rules import Base, BaseOnly
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters, Value
from stockpot.yaml_files import Section

S = TypeVar("S", bound=Section)


@dataclass(frozen=True, slots=True)
class OfferedField:
    """A hyperparameter as one section of params.yaml offers it.

    Attributes:
        kind: int, float, str, or a Literal of names.
        rules: the range of a number: limits by `ge`, `gt`, `le` and `lt`.
        default: in this section.
        description: help for the user.
    """

    name: str
    kind: Any
    rules: Mapping[str, Any]
    default: Value | None
    description: str

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        return self.kind in (int, float)

    @property
    def value_type(self) -> Any:
        """The type of one value, with its range."""
        return Annotated[self.kind, Field(**self.rules)] if self.rules else self.kind

    def checked(self, value: Value) -> Value:
        """Return one value as this field's kind.

        Raises:
            ValueError: the hyperparameter cannot have it.
        """
        names = get_args(self.kind)
        if names and value not in names:
            raise unknown_name(self.name, str(value), names)
        if not self.is_number:
            return value
        try:
            number = float(value)
            self.check_range(Choice((number,)))
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        return number

    def check_range(self, distribution: Drawn) -> None:
        """Refuse a distribution with values that the hyperparameter cannot have.

        Raises:
            ValueError: it has some.
        """
        limits = self.rules
        lowest = limits.get("gt", limits.get("ge", -math.inf))
        highest = limits.get("lt", limits.get("le", math.inf))
        low, high = distribution.bounds()
        found = f"got {low:g}" if low == high else f"got {low:g} to {high:g}"
        above = low > lowest if "gt" in limits else low >= lowest
        below = high <= highest if "le" in limits else high < highest
        if not (above and below):
            opening, closing = "(" if "gt" in limits else "[", "]" if "le" in limits else ")"
            raise ValueError(f"must be in {opening}{lowest:g}, {highest:g}{closing}, {found}")
        if self.kind is int and not distribution.is_whole():
            raise ValueError(f"must be whole numbers, {found}; use integer or choice")


def offered_fields(section: Literal["space", "base"]) -> dict[str, OfferedField]:
    """Return the hyperparameters that `sweep.space` or `base` offers, by name, in their order."""
    hints = get_type_hints(Hyperparameters, include_extras=True)
    found = {}
    for field in fields(Hyperparameters):
        kind, *notes = get_args(hints[field.name])
        marks = {type(note) for note in notes}
        is_offered = {"space": BaseOnly not in marks, "base": bool(marks & {Base, BaseOnly})}
        if not is_offered[section]:
            continue
        rules: dict[str, Any] = {"default": field.default}
        for note in notes:
            if isinstance(note, str):
                rules["description"] = note
            elif section == "base" or not isinstance(note, Base):
                rules |= note
        default, description = rules.pop("default"), rules.pop("description")
        found[field.name] = OfferedField(field.name, kind, rules, default, description)
    return found


def with_fields(
    offered: dict[str, OfferedField], type_of: Callable[[OfferedField], Any]
) -> Callable[[type[S]], type[S]]:
    """Return a class decorator that adds hyperparameters to a section.

    Args:
        offered: the hyperparameters by name.
        type_of: returns the type of a field.
    """

    def extend(section: type[S]) -> type[S]:
        added: dict[str, Any] = {
            name: (type_of(one), Field(one.default, description=one.description))
            for name, one in offered.items()
        }
        return create_model(
            section.__name__,
            __base__=section,
            __doc__=section.__doc__,
            __module__=section.__module__,
            **added,
        )

    return extend
