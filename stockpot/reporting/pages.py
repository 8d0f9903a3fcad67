"""Self-contained HTML pages: templates, figures, and the typesetting of numbers."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template

_TEMPLATES = files("stockpot.reporting") / "templates"


@dataclass(frozen=True, slots=True)
class PageFigure:
    """A figure of a page.

    Attributes:
        title: its heading.
        caption: how to read it, or why it was left out.
        svg: one <svg> element; None if it was left out.
    """

    title: str
    caption: str
    svg: str | None


def page_template(name: str) -> Template:
    """Load the template of a page: templates/<name>.html.jinja."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(lambda file: _TEMPLATES.joinpath(file).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = _typeset
    return environment.get_template(f"{name}.html.jinja")


def template_digests() -> dict[str, str]:
    """Return the digest of each file of the templates, by its name."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:20]
        for file in sorted(_TEMPLATES.iterdir(), key=lambda file: file.name)
        if file.is_file()
    }


def _typeset(sentence: str) -> str:
    """Use minus signs, and no line break before a percent sign or inside a p-value."""
    signed = re.sub(r"(?<=[ (])-(?=\d)", "\N{MINUS SIGN}", sentence)
    unbroken = r" %|(?<=\bp) (?:[<=] )?(?=\d)"
    return re.sub(unbroken, lambda hit: hit[0].replace(" ", "\N{NO-BREAK SPACE}"), signed)
