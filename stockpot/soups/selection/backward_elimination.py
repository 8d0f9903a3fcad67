"""Backward elimination (Marill & Green 1963, https://doi.org/10.1109/TIT.1963.1057810)."""

from __future__ import annotations

from stockpot.soups.selection.candidates import Candidates, Selection
from stockpot.soups.selection.stopping import best_of, evaluation


def backward_elimination(candidates: Candidates) -> Selection:
    """Start from all ingredients, and remove one by one the one whose removal helps most.

    Ends when no removal raises the val score; of equal removals, that of the worst ingredient
    alone is made. Evaluates at most K * (K + 1) / 2 soups of K ingredients, K + 1 if none is
    removed.

    Source: the paper removes features of a classifier until a given number is left.
    """
    evaluate = evaluation(candidates)
    members: list[int] = sorted(candidates.order)
    values = candidates.score(members)
    while len(members) > 1:
        removable = [one for one in reversed(candidates.order) if one in members]
        shorter = [[member for member in members if member != one] for one in removable]
        found = best_of(shorter, evaluate, to_exceed=values)
        if found is None:
            break
        members, values = found
    return Selection(members)
