"""Baselines from the same ingredients: random soups, and interpolation with the base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stockpot.reporting.results import Manifest, best_soup, models_of


@dataclass(frozen=True, slots=True)
class Baseline:
    """Mean scores of a baseline that is no checkpoint of this run.

    Attributes:
        name: in the table.
        detail: shown after the name, in a smaller font.
        val: on val; None if it was not scored, as for the others.
        test: on test.
        shift: mean over the test shifts.
    """

    name: str
    detail: str
    val: float | None
    test: float | None
    shift: float | None


def random_soups(evaluation: Manifest) -> Baseline | None:
    """Return the mean score of random soups with as many ingredients as the best soup.

    If the best soup has all ingredients, random soups of any size are used instead.

    Returns:
        None without random soups or without soups.
    """
    best = best_soup(evaluation)
    rows = random_rows(evaluation, best["name"]) if best is not None else []
    if not rows:
        return None
    size = rows[0].get("size")
    means = {row["place"]: row["mean"] for row in rows}
    name = "random soup" if size is None else f"random soup of {size}"
    return Baseline(name, "mean of many", means.get("val"), means.get("test"), means.get("shift"))


def random_rows(evaluation: Manifest, model: str) -> list[Mapping[str, Any]]:
    """Return the comparisons of a model with random soups: of its size, else of any size."""
    drawn = evaluation.get("random_soups", {}).get("rows", [])
    own = [row for row in drawn if row["model"] == model]
    num_ingredients = len(models_of(evaluation, "ingredient"))
    matched = [r for r in own if r["pool"] == "matched" and r["size"] != num_ingredients]
    return matched or [{**row, "size": None} for row in own if row["pool"] == "any"]


def wise_ft(evaluation: Manifest) -> Baseline | None:
    """Return the interpolation of base and soup with the highest val score.

    Of equal ones it is the nearest to the soup. None without interpolations, or if the best one is
    a soup itself, which has its own row.
    """
    points = [
        (path["val"][place], alpha, place, path)
        for path in evaluation.get("wise_ft", [])
        for place, alpha in enumerate(path["alphas"])
    ]
    if not points:
        return None
    _, alpha, place, path = max(points, key=lambda point: point[:2])
    if alpha == 1:
        return None
    shift = path["shift"][place] if path.get("shift") else None
    name, detail = f"WiSE-FT {alpha:g}", f"{path['model']} and base"
    return Baseline(name, detail, path["val"][place], path["test"][place], shift)
