"""The section `diagnose` of params.yaml: which diagnostics run, and their options."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from stockpot.config.custom_choices import accept_options
from stockpot.diagnostics.registry import DIAGNOSTICS
from stockpot.plugins import options_of
from stockpot.yaml_files import Section

DIAGNOSTIC_NAMES: tuple[str, ...] = tuple(DIAGNOSTICS)
"""The built-in diagnostics, in the order of the report."""

_USERS_OWN = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"}


def _module_and_function(name: str) -> str:
    if not re.fullmatch(_USERS_OWN["pattern"], name):
        raise ValueError(f"must be module:function, got {name!r}")
    return name


def _known(name: str) -> str:
    if name not in DIAGNOSTIC_NAMES:
        DIAGNOSTICS[name]  # imports a user's module to check that it has the function
    return name


DiagnosticName = Annotated[
    str,
    WithJsonSchema({"anyOf": [{"enum": [*DIAGNOSTIC_NAMES], "type": "string"}, _USERS_OWN]}),
]

UsersFunction = Annotated[str, AfterValidator(_module_and_function), WithJsonSchema(_USERS_OWN)]


class DiagnosticSection(Section, extra="allow"):
    """A diagnostic with options of its own, which are further fields."""

    name: Annotated[DiagnosticName, AfterValidator(_known)] = Field(
        description="a built-in diagnostic, or module:function of your own"
    )

    @model_validator(mode="after")
    def _it_accepts_the_options(self) -> DiagnosticSection:
        accept_options(self, options_of(f"diagnostic {self.name!r}", DIAGNOSTICS[self.name]))
        return self


def _kind(content: Any) -> str:
    return "options" if isinstance(content, dict | DiagnosticSection) else "name"


Diagnostic = Annotated[
    Annotated[DiagnosticName, Tag("name")] | Annotated[DiagnosticSection, Tag("options")],
    Discriminator(_kind),
]

Diagnose = Annotated[
    Annotated[Literal["all"], Tag("all")] | Annotated[list[Diagnostic], Tag("list")],
    Discriminator(lambda content: "list" if isinstance(content, list) else "all"),
]
"""All built-in diagnostics, or a list of names and of sections with options."""


def check_chosen(chosen: Sequence[str | DiagnosticSection]) -> None:
    """Check that diagnostics exist, and that none with options is chosen twice.

    Raises:
        InputError: there is no such diagnostic.
        ValueError: one is chosen twice.
    """
    names = [_known(one) if isinstance(one, str) else one.name for one in chosen]
    for one in chosen:
        if isinstance(one, DiagnosticSection) and names.count(one.name) > 1:
            raise ValueError(f"must name each diagnostic once, got {one.name!r} twice")


def chosen_diagnostics(
    diagnose: str | Sequence[str | DiagnosticSection],
) -> dict[str, Mapping[str, Any]]:
    """Return the options of each diagnostic that runs, by name, in the order of the report.

    Args:
        diagnose: `all`, or names and sections.
    """
    if isinstance(diagnose, str):
        return {name: {} for name in DIAGNOSTIC_NAMES}
    found: dict[str, Mapping[str, Any]] = {
        one if isinstance(one, str) else one.name: {}
        if isinstance(one, str)
        else dict(one.model_extra or {})
        for one in diagnose
    }
    built_in = [name for name in DIAGNOSTIC_NAMES if name in found]
    return {name: found[name] for name in dict.fromkeys([*built_in, *found])}
