"""One ingredient, and how far to go to it from the base (WiSE-FT, Wortsman et al. 2022).

https://arxiv.org/abs/2109.01903
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

ALPHAS = tuple(step / 10 for step in range(1, 11))
"""How far the points that are looked at are from the base; 1 is the ingredient itself."""

_UNTUNED = 0.5  # what the paper uses where there is nothing to choose by


@dataclass(frozen=True, slots=True)
class Place:
    """A point on the straight path from the base to an ingredient.

    Attributes:
        ingredient: its position.
        alpha: how far from the base, in (0, 1].
        score: val score of the model there.
    """

    ingredient: int
    alpha: float
    score: float


def select_on_paths(order: Sequence[int], score: Callable[[int, float], float]) -> list[Place]:
    """Score the points on the paths from the base to each ingredient, best first.

    Of points that score the same, which few val examples make frequent, those of the better
    ingredient come first, and of these the nearer to the middle of the path.

    Args:
        order: positions of the ingredients, best val score first.
        score: val score of the point on the path to an ingredient, by how far it is.

    Returns:
        A place for each ingredient and alpha.
    """
    places = [
        (Place(ingredient, alpha, score(ingredient, alpha)), standing)
        for standing, ingredient in enumerate(order)
        for alpha in ALPHAS
    ]
    places.sort(key=lambda each: (-each[0].score, each[1], abs(each[0].alpha - _UNTUNED)))
    return [place for place, _ in places]
