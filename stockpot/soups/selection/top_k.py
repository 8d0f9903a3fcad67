"""The best ingredients on val."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stockpot.soups.selection.candidates import Candidates, Selection


def top_k(
    candidates: Candidates,
    *,
    k: Annotated[int, Field(ge=1, description="number of ingredients; all, if there are fewer")],
) -> Selection:
    """Merge the k best ingredients on val."""
    return Selection(candidates.order[:k])
