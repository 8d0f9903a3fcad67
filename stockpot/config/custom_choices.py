"""Sections whose kind is a built-in name, or `module:name` for code of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from stockpot.errors import unknown_name
from stockpot.plugins import Option
from stockpot.yaml_files import Section


@dataclass(frozen=True, slots=True)
class OrCustom:
    """Annotation of a union of built-in sections: it accepts custom code too.

    Attributes:
        field: the field that names the kind, e.g. `select`.
        section: the section for names of the form `module:name`.
    """

    field: str
    section: type[BaseModel]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validate custom sections by their own type, which reports their fields."""

        def validated(content: Any, built_in: Callable[[Any], Any]) -> Any:
            if isinstance(content, self.section):
                return content
            if isinstance(content, dict) and ":" in str(content.get(self.field)):
                return self.section.model_validate(content)
            return built_in(content)

        return core_schema.no_info_wrap_validator_function(
            validated, handler(source), serialization=core_schema.simple_ser_schema("any")
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the built-in sections and the custom one."""
        custom = handler(self.section.__pydantic_core_schema__)
        return {"anyOf": [handler(schema), custom]}


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
        ValueError: an option is missing, or the code's option has the name of a field.
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
    return values
