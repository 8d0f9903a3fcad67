"""Fields of params.yaml that are derived from the hyperparameters of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from pydantic import Field, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from stockpot.errors import unknown_name
from stockpot.ingredients.finetuning.hyperparameters import (
    Base,
    BaseOnly,
    Hyperparameters,
    Space,
    Value,
)
from stockpot.ingredients.points import Choice, Numbers
from stockpot.yaml_files import Section

S = TypeVar("S", bound=Section)


@dataclass(frozen=True, slots=True)
class OfferedField:
    """A hyperparameter as one section of params.yaml offers it.

    Attributes:
        kind: int, float, str, or a Literal of names.
        rules: the range of a number, as constraints that pydantic knows.
        default: in this section.
        description: help for the user.
    """

    name: str
    kind: Any
    rules: tuple[Any, ...]
    default: Value | None
    description: str

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        return self.kind in (int, float)

    @property
    def value_type(self) -> Any:
        """The type of one value, with its range."""
        return Annotated[self.kind, *self.rules] if self.rules else self.kind

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

    def check_range(self, distribution: Numbers) -> None:
        """Refuse a distribution with values that the hyperparameter cannot have.

        Raises:
            ValueError: it has some.
        """
        limits = {name: limit for rule in self.rules for name, limit in asdict(rule).items()}
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


def offered_fields(section: type[Space]) -> dict[str, OfferedField]:
    """Return the hyperparameters that a section offers, by name, in their order.

    Args:
        section: `Space` for `sweep.space`, or `Base` for `base`.
    """
    hints = get_type_hints(Hyperparameters, include_extras=True)
    found = {}
    for field in fields(Hyperparameters):
        kind, *notes = get_args(hints[field.name])
        changes = _changes(section, notes)
        if changes is None:
            continue
        infos = [*(note for note in notes if isinstance(note, FieldInfo)), changes]
        rules = {type(rule): rule for info in infos for rule in info.metadata}
        is_own = changes.default is PydanticUndefined
        default: Any = field.default if is_own else changes.default
        (text,) = (note for note in notes if isinstance(note, str))
        found[field.name] = OfferedField(
            field.name, kind, tuple(rules.values()), default, changes.description or text
        )
    return found


def _changes(section: type[Space], notes: Sequence[Any]) -> FieldInfo | None:
    """Return what differs in a section; None if it does not offer the hyperparameter."""
    marks: dict[type, FieldInfo] = {
        type(note): note.field for note in notes if isinstance(note, Space)
    }
    if section is Base:
        return marks.get(Base, marks.get(BaseOnly))
    return None if BaseOnly in marks else marks.get(Space, FieldInfo())


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
