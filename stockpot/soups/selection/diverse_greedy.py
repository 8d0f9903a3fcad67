"""Greedy soup that tries the most different ingredient next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from stockpot.errors import InputError
from stockpot.soups.selection.cached_score import cached_score
from stockpot.soups.selection.candidates import Candidates, Selection
from stockpot.soups.selection.greedy import Next, greedy_steps, greedy_steps_until_known
from stockpot.soups.selection.stopping import evaluation

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.statistics.values import Floats


def diverse_greedy(
    candidates: Candidates,
    *,
    by: Annotated[
        Literal["errors", "task_vectors"],
        Field(
            description="errors: the val values differ most from the soup's (with accuracy: most "
            "examples that one alone gets right); task_vectors: lowest cosine to the soup's"
        ),
    ] = "errors",
) -> Selection:
    """Start from the best on val; try next what differs most from the soup so far.

    An ingredient is accepted as in `greedy`. Of equally different ones, the best on val is tried.
    Evaluates K soups of K ingredients, with `by: errors` also the other K - 1 ingredients alone.

    Raises:
        InputError: `by` is task_vectors, and there are none.
    """
    if by == "errors":
        score = cached_score(candidates.score)
        steps = greedy_steps(candidates.order, score, _by_values(score))
    elif candidates.inner_products is not None:
        following = _by_cosine(candidates.inner_products())
        steps = greedy_steps_until_known(candidates.order, evaluation(candidates), following)
    else:
        raise InputError(
            "select: diverse_greedy by task_vectors needs the base of the ingredients, which is "
            "known in an experiment alone; take by: errors"
        )
    return Selection([step.ingredient for step in steps if step.accepted], steps)


def _by_values(score: Callable[[Sequence[int]], Tensor]) -> Next:
    """Return the rule that takes the largest mean absolute difference of val values."""

    def following(soup: Sequence[int], rest: Sequence[int]) -> int:
        values = score(soup)
        return max(rest, key=lambda one: (score([one]) - values).abs().mean().item())

    return following


def _by_cosine(products: Floats) -> Next:
    """Return the rule that takes the lowest cosine to the mean of the soup's task vectors.

    Args:
        products: inner products of the task vectors (K, K). Those of norm 0 have cosine 0.
    """

    def following(soup: Sequence[int], rest: Sequence[int]) -> int:
        members = [*soup]
        square = products[members][:, members].mean()

        def cosine(one: int) -> float:
            norms = max(0.0, products[one, one] * square) ** 0.5
            return float(products[one, members].mean() / norms) if norms else 0.0

        return min(rest, key=cosine)

    return following
