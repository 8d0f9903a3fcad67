"""Sections whose kind is the name of a plugin: a built-in one, or `module:name` of the user's."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Discriminator, Field, Tag, create_model

from stockpot.errors import unknown_name
from stockpot.plugins import Option, Registry
from stockpot.soups.rounds.rule import RuleKind
from stockpot.soups.selection.rule import Rule
from stockpot.soups.tuning.custom_search import SearchKind
from stockpot.yaml_files import Section

P = TypeVar("P", Rule, SearchKind, RuleKind)


def section_by_name(
    field: str,
    plugins: Registry[P],
    base_of: Callable[[P], type[Section]],
    custom: type[Section],
    default: str | None = None,
) -> Any:
    """Return the type of a section: one of a union, with a member per built-in plugin.

    Args:
        field: the field with the plugin's name; `module:name` selects the custom section.
        plugins: the built-in ones; their options become fields.
        base_of: returns the section that a plugin's member extends.
        custom: the member for the user's plugins, called `Custom<kind>`.
        default: the plugin of a section without `field`.
    """

    def member(name: str) -> Any:
        plugin = plugins[name]
        own: dict[str, Any] = {field: (Literal[name], name if name == default else ...)}
        return create_model(
            name.title().replace("_", "") + custom.__name__.removeprefix("Custom"),
            __base__=base_of(plugin),
            __doc__=plugin.summary,
            **own | _fields_of(plugin.options),
        )

    def kind(content: Any) -> str:
        is_dict = isinstance(content, dict)
        name = content.get(field) if is_dict else getattr(content, field, None)
        return "custom" if ":" in str(name) else "built-in"

    members = reduce(operator.or_, map(member, plugins))
    built_in: Any = Annotated[members, Field(discriminator=field)]
    return Annotated[
        Annotated[built_in, Tag("built-in")] | Annotated[custom, Tag("custom")], Discriminator(kind)
    ]


def accept_options(
    section: Section, options: Mapping[str, Option], *, unused: frozenset[str] = frozenset()
) -> None:
    """Check the further fields of a custom section against the options of its code.

    The section then has the value of every option, defaults included.

    Args:
        section: a section that allows extra fields.
        options: what the code takes.
        unused: fields of the section itself that this code has no use for.

    Raises:
        InputError: a field is unknown.
        ValueError: an option is missing, the code's option has the name of a field, or a value
            cannot be recorded.
        ValidationError: a value is of a wrong type or out of its range.
    """
    own = type(section).model_fields.keys()
    if taken := sorted(own & options.keys()):
        raise ValueError(f"options must not have the names of other fields, got {taken}")
    known = {*own, *options} - unused
    for name in section.model_fields_set:
        if name not in known:
            raise unknown_name("field", name, known)
    given = section.model_extra
    assert given is not None, "only sections that allow extra fields are checked"
    for name, option in options.items():
        if option.default is ... and name not in given:
            raise ValueError(f"option {name!r} is required, got nothing")
    checked: Any = create_model("Options", __base__=Section, **_fields_of(options))
    values: dict[str, Any] = checked.model_validate(given).model_dump()
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"option {name!r} must be a value that JSON can record: a finite number, a text, "
                f"a boolean, null or a list of these, got {value!r}"
            ) from error
    given.update(values)


def _fields_of(options: Mapping[str, Option]) -> dict[str, Any]:
    """Return the options of a plugin as fields for `pydantic.create_model`."""
    return {name: (option.annotation, option.default) for name, option in options.items()}
