"""Soups in which some ingredients count more than others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stockpot.soups.selection.candidates import Selection, WeightedCandidates

if TYPE_CHECKING:
    from torch import Tensor


def score_shares(candidates: WeightedCandidates, shares: Mapping[int, float]) -> Tensor:
    """Return the val values (N,) of the soup in which ingredients have these shares, by position.

    Equal shares give the bits of the soup without coefficients.
    """
    members, coefficients = [*shares], [*shares.values()]
    if _are_equal(coefficients):
        return candidates.score(members)
    return candidates.score_weighted(members, coefficients)


def select_shares(shares: Mapping[int, float]) -> Selection:
    """Return the soup in which ingredients have these shares, by position; none of them is 0."""
    members, coefficients = [*shares], [*shares.values()]
    return Selection(members, coefficients=() if _are_equal(coefficients) else coefficients)


def mean_shares(soups: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return the shares in the mean of soups, which is a soup of the same ingredients."""
    members = dict.fromkeys(member for shares in soups for member in shares)
    return {
        member: sum(shares.get(member, 0.0) for shares in soups) / len(soups) for member in members
    }


def equal_shares(members: Sequence[int]) -> dict[int, float]:
    """Return the shares of the ingredients of a soup without coefficients."""
    return dict.fromkeys(members, 1 / len(members))


def _are_equal(coefficients: Sequence[float]) -> bool:
    return len({*coefficients}) == 1
