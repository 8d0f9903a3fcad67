"""Evaluations of candidates that stop as soon as the decision is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from stockpot.errors import InputError
from stockpot.soups.selection.candidates import Blocks, Candidates, Stopped, WeightedCandidates
from stockpot.statistics.sequential import FallTest

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

Evaluate: TypeAlias = "Callable[[Sequence[int], Tensor | None], Tensor | Stopped]"
"""Positions of ingredients, the val values (N,) of the soup to reach -> those of their soup, or
what is known of it once it loses. None: there is no soup to reach, and all values are computed."""

EvaluateWeighted: TypeAlias = (
    "Callable[[Sequence[int], Sequence[float], Tensor | None], Tensor | Stopped]"
)
"""As `Evaluate`, with the coefficients of the ingredients; none for equal ones."""


def evaluation(candidates: Candidates, *, risk: float = 0.0) -> Evaluate:
    """Return the evaluation of the soups of a selection that compares each with the best so far.

    A soup loses if its score is lower; an equal one does not.

    Args:
        candidates: the ingredients. Without `blocks`, every soup is evaluated whole.
        risk: probability, over the random order of val, that any of the decisions differs from
            that on all of val, where the selection compares at most as many soups as there are
            ingredients. 0: no decision differs.

    Raises:
        InputError: there is a risk, and the metric has no range of values.
    """
    blocks = candidates.blocks(risk > 0) if candidates.blocks else None
    check_risk(risk, (blocks.lowest, blocks.highest) if blocks else None)
    if blocks is None:
        return lambda members, _: candidates.score(members)
    in_blocks, of_each = blocks, risk / max(1, len(candidates.order) - 1)  # the union bound
    return lambda members, best: values_or_stopped(in_blocks, members, best, risk=of_each)


def weighted_evaluation(candidates: WeightedCandidates) -> EvaluateWeighted:
    """Return the evaluation of soups with coefficients; no decision differs."""
    blocks = candidates.blocks(False) if candidates.blocks else None

    def evaluate(
        members: Sequence[int], coefficients: Sequence[float], best: Tensor | None
    ) -> Tensor | Stopped:
        if blocks is not None:
            return values_or_stopped(blocks, members, best, coefficients)
        if coefficients:
            return candidates.score_weighted(members, coefficients)
        return candidates.score(members)

    return evaluate


def best_of(
    soups: Iterable[T],
    evaluate: Callable[[T, Tensor | None], Tensor | Stopped],
    to_exceed: Tensor | None = None,
) -> tuple[T, Tensor] | None:
    """Return the soup of the highest score with its val values (N,); of equal ones, the first.

    Args:
        soups: in any form.
        evaluate: evaluates one of them, given the values of the best so far.
        to_exceed: val values (N,) of a soup whose score must be exceeded, unless it is NaN; None:
            there is none.

    Returns:
        None if no score exceeds it, or all are NaN.
    """
    best = None
    values, highest = to_exceed, -math.inf
    if to_exceed is not None and not to_exceed.isnan().any():
        highest = to_exceed.mean().item()
    for soup in soups:
        found = evaluate(soup, values)
        if not isinstance(found, Stopped) and found.mean().item() > highest:
            best = soup, found
            values, highest = found, found.mean().item()
    return best


def check_risk(risk: float, value_range: tuple[float, float] | None) -> None:
    """Check that racing knows how far two values can differ.

    Args:
        risk: of the selection.
        value_range: the lowest and highest value of the metric; None if it declares none.

    Raises:
        InputError: there is a risk, and a bound is missing.
    """
    if risk > 0 and (value_range is None or math.isinf(value_range[0])):
        raise InputError(
            f"select: risk must be 0 for a metric whose values have no lowest and highest one, got "
            f"{risk}; declare the range of your metric by stockpot.workloads.metric_ranges"
        )


def values_or_stopped(
    blocks: Blocks,
    members: Sequence[int],
    best: Tensor | None,
    coefficients: Sequence[float] = (),
    *,
    risk: float = 0.0,
) -> Tensor | Stopped:
    """Evaluate a soup until it is known to score lower than the best one so far.

    The bound is exact: it is the mean of the values, with the highest possible ones in place of
    those that are unknown. Rounding is monotone, so in the same order of additions it is not below
    the mean that a whole evaluation computes, to the last bit.

    Args:
        blocks: how values are computed.
        members: positions of the ingredients.
        best: val values (N,) of the soup to reach; None to compute all.
        coefficients: of the ingredients; none for equal ones.
        risk: probability of stopping a soup that reaches it; needs blocks in random order.

    Returns:
        The val values (N,), float64, unless it was stopped.
    """
    size = sum(map(len, blocks.indices))
    values = blocks.indices[0].new_full((size,), blocks.highest).double()
    target = -math.inf if best is None else best.mean().item()
    test = None
    if best is not None and risk > 0:
        test = FallTest(size, width=blocks.highest - blocks.lowest, risk=risk)
    evaluated = 0
    for indices, found in zip(blocks.indices, blocks.values(members, coefficients), strict=True):
        values[indices] = found
        evaluated += len(indices)
        if evaluated == size:
            break
        if (at_most := values.mean().item()) < target:
            return Stopped(at_most, evaluated, size)
        if test and best is not None and test.rejects((found - best[indices]).numpy()):
            return Stopped(at_most, evaluated, size, is_certain=False)
    return values
