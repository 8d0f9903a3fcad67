"""Arguments and results of selections: rules that choose the ingredients of a soup.

A selection sees positions and scores on val only, never data. It needs no torch when it is
imported, so that reading params.yaml stays fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.statistics.values import Floats


@dataclass(frozen=True, slots=True)
class Blocks:
    """How the val values of a soup are computed part by part, in the same parts for all soups.

    Attributes:
        indices: the examples of each block, (n,), int64; each of the N examples is in one.
        lowest: no value is lower; -inf without a bound.
        highest: no value is higher.
        values: positions of ingredients and their coefficients, none for equal ones -> the values
            of each block in turn, (n,), float64, on the CPU; a block is computed when it is read.
            Those of a soup are read before those of the next one are asked for.
    """

    indices: Sequence[Tensor]
    lowest: float
    highest: float
    values: Callable[[Sequence[int], Sequence[float]], Iterator[Tensor]]


@dataclass(frozen=True, slots=True)
class Stopped:
    """A soup whose evaluation was stopped because it loses.

    Attributes:
        at_most: its val score is not higher; the score may be NaN, which loses as well.
        examples: number of examples of val that were evaluated.
        of: number of examples of val.
        is_certain: whether it loses for certain; otherwise, by a test with the stated risk.
    """

    at_most: float
    examples: int
    of: int
    is_certain: bool = True


@dataclass(frozen=True, slots=True)
class Candidates:
    """The ingredients to choose from, and the score of any soup of them.

    Attributes:
        order: positions of the ingredients, best val score first; at least one.
        scores: val score of each ingredient, by position; higher is better.
        score: positions of ingredients -> val values (N,), float64, one per example, of the soup
            that they are merged to in this order; the mean of the values is the soup's score.
        similarities: computes the cosines (K, K) between the gradients of the ingredients' own
            training at their uniform soup; None where the training is unknown.
        group_scores: computes, by the name of a group of val examples, the score of each
            ingredient by position; None where there are no groups.
        score_weighted: positions, their coefficients -> as `score`; None where ingredients cannot
            be weighted.
        inner_products: computes those of the task vectors, ingredient minus base, (K, K). Unlike
            `similarities`, they compare where training has led, not where it would go on from
            the uniform soup. None where there is no base.
        seed: of all random numbers that a selection draws.
        blocks: the same values in blocks, for evaluations that stop early: of the examples that
            most ingredients get wrong first, or (True) of examples in random order. None where the
            metric's values have no highest one.
        names: of the ingredients, by position.
    """

    order: Sequence[int]
    scores: Sequence[float]
    score: Callable[[Sequence[int]], Tensor]
    similarities: Callable[[], Floats] | None = None
    group_scores: Callable[[], Mapping[str, Sequence[float]]] | None = None
    score_weighted: Callable[[Sequence[int], Sequence[float]], Tensor] | None = None
    inner_products: Callable[[], Floats] | None = None
    seed: int = 0
    blocks: Callable[[bool], Blocks] | None = None
    names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class WeightedCandidates(Candidates):
    """Candidates that can be weighted.

    A selection of these is refused, before any work, with a merge method without coefficients.
    """

    score_weighted: Callable[[Sequence[int], Sequence[float]], Tensor] = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Step:
    """One decision of a selection that tries ingredients one after another.

    Attributes:
        ingredient: position of the ingredient that was tried.
        score: val score of the soup with it; None if its evaluation was stopped.
        accepted: whether it is added to the soup.
        best: val score of the soup after the decision.
        values: val values (N,), one per example, of the soup with it; their mean is `score`. Those
            of a stopped evaluation are None.
        stopped: what is known after a stopped evaluation; None after a whole one.
    """

    ingredient: int
    score: float | None
    accepted: bool
    best: float
    values: Tensor | None = field(compare=False, repr=False)
    stopped: Stopped | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A group of ingredients that a selection has considered.

    Attributes:
        members: positions of the ingredients.
        score: val score of their soup.
    """

    members: Sequence[int]
    score: float


@dataclass(frozen=True, slots=True)
class Selection:
    """The ingredients of a soup.

    Attributes:
        members: positions of the ingredients, in the order of the merge.
        steps: the decisions that led to them, for the report; empty if there were none.
        groups: the groups of which this is one, best first; empty if there were none.
        coefficients: one per member; empty: equal ones.
        experts: the groups of val examples, by name, with the position of the ingredient that is
            best on them; empty if the choice does not depend on such.
    """

    members: Sequence[int]
    steps: Sequence[Step] = ()
    groups: Sequence[Group] = ()
    coefficients: Sequence[float] = ()
    experts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Paths:
    """The straight paths in weight space from the base to each ingredient.

    Attributes:
        order: positions of the ingredients, best val score first; at least one.
        scores: val score of each ingredient, by position; higher is better.
        score: position of an ingredient, alpha -> val score of base + alpha * (ingredient - base).
    """

    order: Sequence[int]
    scores: Sequence[float]
    score: Callable[[int, float], float]


@dataclass(frozen=True, slots=True)
class PathPoint:
    """A point on the path from the base to an ingredient.

    Attributes:
        ingredient: position of the ingredient.
        alpha: distance from the base, as a fraction of the path; 1 is the ingredient.
        score: val score of the model at this point.
    """

    ingredient: int
    alpha: float
    score: float


@dataclass(frozen=True, slots=True)
class PathSelection:
    """A point on one of the paths, which is the soup.

    Attributes:
        best: the point.
        points: all points that were scored, for the report.
    """

    best: PathPoint
    points: Sequence[PathPoint] = ()

    @property
    def members(self) -> Sequence[int]:
        """The position of the ingredient, alone in a list."""
        return [self.best.ingredient]
