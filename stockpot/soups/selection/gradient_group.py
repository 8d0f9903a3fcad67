"""One group of ingredients whose training gradients agree (Hu et al. 2022).

https://arxiv.org/abs/2203.15207
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stockpot.errors import InputError
from stockpot.soups.selection.candidates import Candidates, Group, Selection
from stockpot.statistics.minimum_cuts import split_into_groups


def gradient_group(
    candidates: Candidates,
    *,
    threshold: Annotated[
        float,
        Field(
            ge=-1,
            le=1,
            description="groups with a lower mean cosine of gradients between parts are split",
        ),
    ] = 0.0,
    max_groups: Annotated[int, Field(ge=2, description="at most so many groups")] = 4,
    rank: Annotated[
        int,
        Field(ge=1, description="1: the group whose soup is best on val; if there are fewer: last"),
    ] = 1,
) -> Selection:
    """Merge the group of ingredients whose soup is best; groups differ in their gradients."""
    if candidates.similarities is None:
        raise InputError(
            "select: gradient_group needs the training of each ingredient, which is known in an "
            "experiment alone; take another selection"
        )
    found = split_into_groups(candidates.similarities(), threshold=threshold, max_groups=max_groups)
    groups = [Group(members, candidates.score(members).mean().item()) for members in found]
    places = {member: place for place, member in enumerate(candidates.order)}
    groups.sort(key=lambda group: (-group.score, min(places[one] for one in group.members)))
    chosen = groups[min(rank, len(groups)) - 1]
    return Selection(chosen.members, groups=groups)
