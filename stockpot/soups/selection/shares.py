"""Soups in which some ingredients count more than others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stockpot.soups.selection.candidates import Selection


def coefficients_of(shares: Mapping[int, float]) -> Sequence[float]:
    """Return the shares of ingredients as coefficients; none if they are equal.

    Equal ones then give the bits of the soup without coefficients.
    """
    return [*shares.values()] if len({*shares.values()}) > 1 else ()


def select_shares(shares: Mapping[int, float]) -> Selection:
    """Return the soup in which ingredients have these shares, by position; none of them is 0."""
    return Selection([*shares], coefficients=coefficients_of(shares))


def mean_shares(soups: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return the shares in the mean of soups, which is a soup of the same ingredients."""
    members = dict.fromkeys(member for shares in soups for member in shares)
    return {
        member: sum(shares.get(member, 0.0) for shares in soups) / len(soups) for member in members
    }


def equal_shares(members: Sequence[int]) -> dict[int, float]:
    """Return the shares of the ingredients of a soup without coefficients."""
    return dict.fromkeys(members, 1 / len(members))
