"""Sections whose kind is a built-in name, or `module:name` for code of the user's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Discriminator, Tag, create_model

from stockpot.errors import unknown_name
from stockpot.plugins import Option
from stockpot.yaml_files import Section

BUILT_IN, CUSTOM = Tag("built-in"), Tag("custom")


def by_name(field: str) -> Discriminator:
    """Return the discriminator of a union of `BUILT_IN` sections and a `CUSTOM` one.

    Args:
        field: the field with the name; `module:name` selects the custom section.
    """

    def kind(content: Any) -> str:
        is_dict = isinstance(content, dict)
        name = content.get(field) if is_dict else getattr(content, field, None)
        return "custom" if ":" in str(name) else "built-in"

    return Discriminator(kind)


def fields_of(options: Mapping[str, Option]) -> dict[str, Any]:
    """Return the options of a plugin as fields for `pydantic.create_model`."""
    return {name: (option.annotation, option.default) for name, option in options.items()}


def checked_options(
    section: Section, options: Mapping[str, Option], *, unused: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Check the further fields of a custom section against the options of its code.

    Args:
        section: a section that allows extra fields.
        options: what the code takes.
        unused: fields of the section itself that this code has no use for.

    Returns:
        The value of every option, defaults included.

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
    given = section.model_extra or {}
    for name, option in options.items():
        if option.default is ... and name not in given:
            raise ValueError(f"option {name!r} is required, got nothing")
    checked: Any = create_model("Options", __base__=Section, **fields_of(options))
    values: dict[str, Any] = checked.model_validate(given).model_dump()
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"option {name!r} must be a value that JSON can record: a finite number, a text, "
                f"a boolean, null or a list of these, got {value!r}"
            ) from error
    return values
