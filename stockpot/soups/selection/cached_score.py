"""Scores of soups that are computed once per set of ingredients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def cached_score(
    score: Callable[[Sequence[int]], Tensor],
) -> Callable[[Sequence[int]], Tensor]:
    """Return a score function that merges and scores each set of ingredients once.

    Args:
        score: positions of ingredients -> val values (N,) of their soup. A set is merged in the
            order in which it is asked for first: other orders would differ in the last bits alone.
    """
    known: dict[frozenset[int], Tensor] = {}

    def of(members: Sequence[int]) -> Tensor:
        key = frozenset(members)
        if key not in known:
            known[key] = score(members)
        return known[key]

    return of
