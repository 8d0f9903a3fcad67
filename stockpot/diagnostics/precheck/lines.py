"""Checks of val scores: can an ingredient be averaged with the others?

Each ingredient is averaged half-way with the running mean of the ingredients that passed. The mean
starts at the ingredient whose task vector is most like the others', since the best ingredient may
be the one that does not belong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from stockpot.diagnostics.line import LineScores
from stockpot.diagnostics.precheck.check import Check, rounded
from stockpot.diagnostics.states import Mean
from stockpot.merging.methods.inner_products import cosines_of, task_vector_gram
from stockpot.merging.states import State
from stockpot.workers.inside import note_step

_SPREADS = 6.0  # robust standard deviations below the median: more than chance
_ROBUST = 1.4826  # standard deviation / median absolute deviation, of a normal distribution


@dataclass(frozen=True, slots=True)
class Line:
    """The line from the mean of other ingredients to one ingredient.

    Attributes:
        scores: of the mean, half-way, and of the ingredient.
        harm: by how much half-way to the ingredient scores lower than half-way to the base.
    """

    scores: LineScores
    harm: float

    @property
    def fall(self) -> float:
        """The loss half-way: the barrier, or the harm if that is larger.

        An ingredient that was trained for another task scores so low that its mean with others
        may be above the average of both ends; compared with half of the base it is not.
        """
        return max(self.scores.accuracy_barrier, self.harm)


def check_scores(scores: Mapping[str, float], base_score: float, limit: float) -> list[Check]:
    """Check that no ingredient is far worse than both the base and the others.

    Args:
        scores: val scores of the ingredients by name, higher is better.
        base_score: the val score of the base.
        limit: a fall below the others that always passes.
    """
    usual = median(scores.values())
    spread = _ROBUST * median(abs(score - usual) for score in scores.values())
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
        for name, score in scores.items()
    ]


def most_alike(states: Mapping[str, State], base: State) -> str:
    """Name the ingredient whose task vector has the highest median cosine with the others.

    The one nearest to the others would be the one that moved least.
    """
    names = [*states]
    if len(names) == 1:
        return names[0]
    cosines = cosines_of(task_vector_gram([*states.values()], base)).numpy()
    to_others = [np.median(np.delete(row, place)) for place, row in enumerate(cosines)]
    return names[int(np.argmax(to_others))]


def running_lines(
    states: Mapping[str, State],
    base: State,
    order: Sequence[str],
    score: Callable[[State], float],
    mean: Mean,
    limit: float,
) -> dict[str, Line]:
    """Measure the line to each ingredient from the running mean of those before it that passed.

    Ingredients that failed are measured again from the mean of all that passed: they may only
    have come too early.

    Args:
        states: the ingredients by name.
        base: the base.
        order: names of ingredients; the mean starts at the first one, which passes.
        score: state -> val score, higher is better.
        mean: states -> their uniform soup.
        limit: the largest fall that passes.

    Returns:
        A line for each name in `order` except the first.
    """
    accepted = [order[0]]
    lines: dict[str, Line] = {}
    for _ in range(2):
        for name in [name for name in order[1:] if name not in accepted]:
            members = [states[n] for n in accepted]
            lines[name] = line_to(states[name], members, base, score, mean)
            if lines[name].fall <= limit:
                accepted.append(name)
            note_step(len(lines), len(order) - 1)
    return lines


def line_to(
    state: State,
    others: Sequence[State],
    base: State,
    score: Callable[[State], float],
    mean: Mean,
) -> Line:
    """Measure the line from the mean of some ingredients to another one."""
    start = mean(others)
    path = (start, mean([start, state]), state)
    scores = LineScores((0.0, 0.5, 1.0), tuple(score(point) for point in path))
    return Line(scores, score(mean([start, base])) - scores.scores[1])


def line_checks(lines: Mapping[str, Line], limit: float) -> Iterator[Check]:
    """Yield the check of each line."""
    for name, line in lines.items():
        mean, middle, own = line.scores.scores
        detail = (
            f"half-way between it ({own:.4g} on val) and the mean of the others ({mean:.4g}) the "
            f"score is {middle:.4g}"
        )
        yield Check(name, "path", line.fall <= limit, rounded(line.fall), rounded(limit), detail)
