"""The order of ingredients by val score."""

from __future__ import annotations

from collections.abc import Sequence


def rank(val_scores: Sequence[float], keys: Sequence[str]) -> list[int]:
    """Return the positions of the ingredients from best to worst.

    Args:
        val_scores: one an ingredient; higher is better.
        keys: content keys in the same order; equal scores are ordered by key, so that runs agree
            whatever order the ingredients were trained in.
    """
    return sorted(range(len(val_scores)), key=lambda p: (-val_scores[p], keys[p]))
