"""The barrier between two nets: the loss of score along the line between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.merging.states import State


@dataclass(frozen=True, slots=True)
class LineScores:
    """Scores along the line between two nets.

    Attributes:
        shares: of the second net, from 0 to 1.
        scores: one per share.
    """

    shares: tuple[float, ...]
    scores: tuple[float, ...]

    @property
    def rises(self) -> tuple[float, ...]:
        """How far each score is above the interpolation of the two ends' scores."""
        first, last = self.scores[0], self.scores[-1]
        return tuple(
            score - (first + share * (last - first))
            for share, score in zip(self.shares, self.scores, strict=True)
        )

    @property
    def loss_barrier(self) -> float:
        """The largest rise, for scores that are better when lower; at least 0."""
        return max(self.rises)

    @property
    def accuracy_barrier(self) -> float:
        """The largest fall, for scores that are better when higher; at least 0."""
        return max(0.0, -min(self.rises))


def score_line(
    first: State,
    second: State,
    score: Callable[[State], float],
    *,
    num_points: int = 11,
    correct: Callable[[State, float], State] | None = None,
) -> LineScores:
    """Score nets on the straight line from one to the other, both included.

    BatchNorm's statistics are pooled, unless `correct` recalibrates them.

    Args:
        first: one end.
        second: the other end, with the same tensors.
        score: loss or accuracy of a state dict, on val examples.
        num_points: number of nets, at least 3.
        correct: (state, share of `second`) -> state; applied to nets between the ends before they
            are scored, e.g. REPAIR.

    Raises:
        InputError: there are too few points, or the nets cannot be merged.

    Source: Frankle et al. 2020, https://arxiv.org/abs/1912.05671, section 2, with the expected
    score as in Entezari et al. 2021, https://arxiv.org/abs/2110.06296, Definition 1.
    """
    if num_points < 3:
        raise InputError(f"barrier: num_points must be at least 3, got {num_points}")
    shares = tuple(position / (num_points - 1) for position in range(num_points))
    scores = [score(first)]
    for share in shares[1:-1]:
        merged: State = merge_states([first, second], Recipe.of(linear, (1 - share, share)))
        scores.append(score(merged if correct is None else correct(merged, share)))
    return LineScores(shares, (*scores, score(second)))
