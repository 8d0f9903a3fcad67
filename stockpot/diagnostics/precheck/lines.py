"""Checks of scores on val: does an ingredient go with the mean of the others?

Each ingredient is taken half-way with the running mean of those that passed. The mean starts at the
ingredient whose task vector is most like the others', not at the best one, which may be foreign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

import numpy as np
from torch import Tensor

from stockpot.diagnostics.line import Line, score_line
from stockpot.diagnostics.precheck.check import Check, rounded
from stockpot.merging.engine import merge_states
from stockpot.merging.methods.inner_products import cosines_of, task_vector_gram
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe

State: TypeAlias = Mapping[str, Tensor]

_SPREADS = 6.0  # robust standard deviations below the usual score: no matter of chance
_ROBUST = 1.4826  # median absolute deviations are so much smaller than standard deviations


@dataclass(frozen=True, slots=True)
class Path:
    """From the mean of the others to one ingredient.

    Attributes:
        scores: of the mean, half-way, and of the ingredient.
        harm: how much lower half-way to the ingredient scores than half-way to the base.
    """

    scores: Line
    harm: float

    @property
    def fall(self) -> float:
        """What is lost half-way: by a barrier, or by what the ingredient brings along.

        One that was trained for something else is so bad itself that its mean with others may be
        above what the two let one expect. It then is below what half of the base would be.
        """
        return max(self.scores.accuracy_barrier, self.harm)


def check_scores(
    names: Sequence[str], scores: Sequence[float], base_score: float, limit: float
) -> list[Check]:
    """Check that no ingredient is far worse than both the base and the others.

    Args:
        names: of M ingredients.
        scores: theirs on val, higher is better.
        base_score: the base's.
        limit: a fall below the others that is never too far.
    """
    usual = median(scores)
    spread = _ROBUST * median(abs(score - usual) for score in scores)
    lowest = min(usual, base_score) - max(limit, _SPREADS * spread)
    return [
        Check(
            name,
            "score",
            score >= lowest,
            rounded(score),
            rounded(lowest),
            f"it scores {score:.4g} on val, the base {base_score:.4g}, ingredients {usual:.4g} "
            "(median)",
        )
        for name, score in zip(names, scores, strict=True)
    ]


def most_alike(states: Sequence[State], base: State) -> int:
    """Return the position of the ingredient whose task vector is most like the others'.

    That is the one of highest median cosine. By distance it would be whichever moved least.
    """
    if len(states) == 1:
        return 0
    cosines = cosines_of(task_vector_gram(states, base)).numpy()
    to_others = [np.median(np.delete(row, place)) for place, row in enumerate(cosines)]
    return int(np.argmax(to_others))


def walk(
    states: Sequence[State],
    base: State,
    order: Sequence[int],
    score: Callable[[State], float],
    limit: float,
) -> dict[int, Path]:
    """Measure the path to each ingredient from the running mean of those before it that passed.

    Those that did not are measured again from the mean of all that did: they may only have been
    too early.

    Args:
        states: M ingredients.
        base: what they started from.
        order: their positions; the first one is where the mean starts, and passes.
        score: of weights on val, higher is better.
        limit: the largest fall that passes.

    Returns:
        A path for each position in `order` but the first.
    """
    accepted = [order[0]]
    paths: dict[int, Path] = {}
    for waiting in (list(order[1:]), None):
        again = [place for place in order[1:] if place not in accepted]
        for place in again if waiting is None else waiting:
            paths[place] = path_to(states[place], [states[p] for p in accepted], base, score)
            if paths[place].fall <= limit:
                accepted.append(place)
    return paths


def path_to(
    state: State, others: Sequence[State], base: State, score: Callable[[State], float]
) -> Path:
    """Measure the path from the mean of some ingredients to another one."""
    mean = mean_of(others)
    line = score_line(mean, state, score, num_points=3)
    return Path(line, score(mean_of([mean, base])) - line.scores[1])


def mean_of(states: Sequence[State]) -> dict[str, Tensor]:
    """Return the uniform average, by the rules of every soup."""
    return merge_states(states, Recipe.of(linear, (1.0,) * len(states)))


def path_checks(names: Sequence[str], paths: Mapping[int, Path], limit: float) -> Iterator[Check]:
    """Say of each path whether it passed."""
    for place, path in paths.items():
        mean, middle, own = path.scores.scores
        detail = (
            f"half-way between it ({own:.4g} on val) and the mean of the others ({mean:.4g}) the "
            f"score is {middle:.4g}"
        )
        value, passed = rounded(path.fall), path.fall <= limit
        yield Check(names[place], "path", passed, value, rounded(limit), detail)
