"""The figures of docs/reference/papers.md: in words, and written into the page."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "papers.md"
_WIDTH = 118


@dataclass(frozen=True)
class Figure:
    """A value with its interval over seeds.

    Attributes:
        title: what is compared or reported.
        where: the metric, or the set on which accuracy was measured.
        shown: the value and its interval.
        verdict: better, worse or no difference; empty for a value that is no difference.
    """

    title: str
    where: str
    shown: str
    verdict: str = ""


def in_words(figures: Sequence[Figure]) -> str:
    """Return figures in one sentence; those of one title have one verdict if it is the same."""
    parts = []
    for title, of_title in groupby(figures, key=lambda figure: figure.title):
        group = [*of_title]
        verdicts = {figure.verdict for figure in group}
        if len(verdicts) == 1:
            values = ", ".join(f"{figure.where} {figure.shown}" for figure in group)
            parts.append(f"{title}, {values}" + "".join(f": {one}" for one in verdicts if one))
        else:
            values = ", ".join(f"{f.where} {f.shown} ({f.verdict})" for f in group)
            parts.append(f"{title}, {values}")
    return "; ".join(parts) + "."


def write(number: int, text: str) -> None:
    """Write a row's figure into the page, in the place of the one before.

    Raises:
        SystemExit: the page has no such row.
    """
    page = PAGE.read_text(encoding="utf-8")
    row = re.search(rf"^### {number}\. .*?(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    if row is None:
        raise SystemExit(f"{PAGE.name}: must have a row {number}, got none; add it first")
    filled = textwrap.fill(
        f"- Figure: {text}",
        _WIDTH,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    old = re.sub(r"^- Figure: .*?(?=^- )", "", row.group(), flags=re.MULTILINE | re.DOTALL)
    new = re.sub(
        r"^- Identity: .*\n", lambda found: f"{found.group()}{filled}\n", old, flags=re.MULTILINE
    )
    PAGE.write_text(page[: row.start()] + new + page[row.end() :], encoding="utf-8")
