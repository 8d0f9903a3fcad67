"""The code blocks of README and the documentation, and how each is run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from projects import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
_BLOCK = re.compile(
    r"^(?:<!-- (?P<how>[^>]*?) -->\n)?^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: where it is.
        line: of its fence.
        language: after the fence; `sh` for commands.
        text: the code.
        how: the comment before it: `run in: CONTEXT`, `run by: TEST FILE` or `not run: REASON`.
    """

    page: str
    line: int
    language: str
    text: str
    how: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def context(self) -> str:
        """Where it is run; empty if it is not run here."""
        kind, _, value = self.how.partition(": ")
        if kind == "run in":
            return value
        return "empty" if self.language == "python" and not self.how else ""


def blocks() -> list[Block]:
    """Return all fenced blocks of all pages, in order."""
    return [
        Block(
            str(page.relative_to(REPOSITORY)),
            text[: found.start("language")].count("\n") + 1,
            found["language"],
            found["text"],
            found["how"] or "",
        )
        for page in PAGES
        for text in [page.read_text(encoding="utf-8")]
        for found in _BLOCK.finditer(text)
    ]


def run_by(block: Block) -> Path | None:
    """Return the test that runs a block, if its comment names one."""
    kind, _, value = block.how.partition(": ")
    return REPOSITORY / value if kind == "run by" else None
