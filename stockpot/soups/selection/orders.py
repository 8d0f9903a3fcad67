"""Orders in which greedy selection tries ingredients: at each step, the next one for a soup."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from stockpot.errors import InputError
from stockpot.soups.selection.candidates import Candidates

if TYPE_CHECKING:
    from torch import Tensor

Next: TypeAlias = Callable[[Sequence[int], Sequence[int]], int]
"""Positions in the soup so far, one or more, and of those not tried, best first -> the next."""

Order: TypeAlias = Literal["score", "diversity", "cosine"]


def by_score(_soup: Sequence[int], rest: Sequence[int]) -> int:
    """Return the best of the rest on val."""
    return rest[0]


def by_diversity(score: Callable[[Sequence[int]], Tensor]) -> Next:
    """Return the order that tries the ingredient whose val values differ most from the soup's.

    With accuracy, the difference is the fraction of val examples on which one alone is right.

    Args:
        score: positions -> val values (N,) of their soup, computed once per soup.
    """

    def following(soup: Sequence[int], rest: Sequence[int]) -> int:
        values = score(soup)
        return max(rest, key=lambda one: (score([one]) - values).abs().mean().item())

    return following


def by_cosine(candidates: Candidates) -> Next:
    """Return the order that tries the ingredient whose task vector points most away from the soup's.

    The soup's task vector is the mean of its ingredients'; a task vector of norm 0 has cosine 0.

    Raises:
        InputError: there are no task vectors.
    """
    if candidates.inner_products is None:
        raise InputError(
            "order: cosine needs the base of the ingredients, which is known in an experiment "
            "alone; take diversity"
        )
    products = candidates.inner_products()  # (K, K)

    def following(soup: Sequence[int], rest: Sequence[int]) -> int:
        soup_square = products[[*soup]][:, [*soup]].mean()

        def cosine(one: int) -> float:
            norms = (products[one, one] * soup_square) ** 0.5
            return float(products[one, [*soup]].mean() / norms) if norms else 0.0

        return min(rest, key=cosine)

    return following
