"""Model cards: Markdown with front matter, in the format of the Hugging Face Hub.

Source: https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml


def render_card(front_matter: Mapping[str, Any], title: str, parts: Iterable[str]) -> str:
    """Return a model card; equal arguments give equal text.

    Args:
        front_matter: metadata that the Hub reads.
        title: heading of the card.
        parts: paragraphs, tables and further headings, in Markdown; empty ones are left out.
    """
    metadata = yaml.safe_dump(dict(front_matter), sort_keys=False, allow_unicode=True)
    body = "\n\n".join(part for part in (f"# {inline(title)}", *parts) if part)
    card = f"---\n{metadata}---\n\n{body}\n"
    return card.encode("utf-8", "backslashreplace").decode("utf-8")  # names that are not Unicode


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(inline, line))} |" for line in lines)


def markdown_list(items: Iterable[str]) -> str:
    """Return a bulleted Markdown list."""
    return "\n".join(f"- {inline(item)}" for item in items)


def inline(text: str) -> str:
    """Escape a text so that it stays on one line, and inside its table cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
