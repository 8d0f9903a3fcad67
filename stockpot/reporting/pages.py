"""Pages that need nothing but themselves: their templates, and how numbers are typeset."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


def page_template(name: str) -> Template:
    """Return a page's template, one of the *.html.jinja files in templates/."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("stockpot.reporting") / "templates"
    environment = Environment(
        loader=FunctionLoader(lambda file: folder.joinpath(file).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = _typeset
    return environment.get_template(f"{name}.html.jinja")


def _typeset(sentence: str) -> str:
    """Put real minus signs, and no line break before a percent sign or inside a p-value."""
    signed = re.sub(r"(?<=[ (])-(?=\d)", "\N{MINUS SIGN}", sentence)
    kept = r" %|(?<=\bp) (?:< )?(?=\d)"
    return re.sub(kept, lambda hit: hit[0].replace(" ", "\N{NO-BREAK SPACE}"), signed)
