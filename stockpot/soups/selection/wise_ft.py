"""WiSE-FT (Wortsman et al. 2022, https://arxiv.org/abs/2109.01903), tuned on val."""

from __future__ import annotations

from stockpot.soups.selection.candidates import PathPoint, Paths, PathSelection

ALPHAS = (0.5, 0.4, 0.6, 0.7, 0.3, 0.2, 0.8, 0.1, 0.9, 1.0)
"""Points to score on each path, in order of preference: 0.5 is the paper's alpha where there is no
data to tune it on, 1 is the ingredient itself."""


def wise_ft(paths: Paths) -> PathSelection:
    """Take the best point on val of the straight paths from the base to each ingredient.

    Points often have equal scores where val is small. The better ingredient then wins, and of its
    points the nearest to the middle of the path.
    """
    points = [
        PathPoint(ingredient, alpha, paths.score(ingredient, alpha))
        for ingredient in paths.order
        for alpha in ALPHAS
    ]
    points.sort(key=lambda point: -point.score)
    return PathSelection(points[0], points)
