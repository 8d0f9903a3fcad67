"""WiSE-FT (Wortsman et al. 2022, https://arxiv.org/abs/2109.01903), tuned on val."""

from __future__ import annotations

from stockpot.soups.selection.candidates import PathPoint, Paths, PathSelection

ALPHAS = tuple(step / 10 for step in range(1, 11))
"""Points to score on each path; 1 is the ingredient itself."""

_UNTUNED = 0.5  # the paper's alpha where there is no data to tune it on


def wise_ft(paths: Paths) -> PathSelection:
    """Take the best point on val of the straight paths from the base to each ingredient.

    Points often have equal scores where val is small. The better ingredient then wins, and of its
    points the nearest to the middle of the path.
    """
    points = [
        (PathPoint(ingredient, alpha, paths.score(ingredient, alpha)), place)
        for place, ingredient in enumerate(paths.order)
        for alpha in ALPHAS
    ]
    points.sort(key=lambda each: (-each[0].score, each[1], abs(each[0].alpha - _UNTUNED)))
    best_first = [point for point, _ in points]
    return PathSelection(best_first[0], best_first)
