"""Ingredients and coefficients that are known, such as those that a search has found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from stockpot.errors import InputError
from stockpot.soups.selection.candidates import Candidates, Selection


def given(
    candidates: Candidates,
    *,
    members: Annotated[
        Sequence[str], Field(min_length=1, description="names of ingredients, in order")
    ],
    coefficients: Annotated[
        Sequence[float], Field(description="one per member; []: equal ones")
    ] = (),
) -> Selection:
    """Take certain ingredients, with certain coefficients.

    Raises:
        InputError: there is no such ingredient, or there is not one coefficient per member.
    """
    place = {name: position for position, name in enumerate(candidates.names)}
    missing = [name for name in members if name not in place]
    if missing:
        raise InputError(f"members: must be ingredients, got {missing}; there are {[*place]}")
    if coefficients and len(coefficients) != len(members):
        raise InputError(
            f"coefficients: must be one per member ({len(members)}), got {len(coefficients)}"
        )
    return Selection([place[name] for name in members], coefficients=tuple(coefficients))
