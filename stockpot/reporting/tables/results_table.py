"""The rows of the table of results: models, and baselines from the same ingredients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from stockpot.reporting.results import Manifest, ModelEntry, best_ingredient, best_soup, models_of
from stockpot.reporting.words.comparisons import SHIFT, TEST, Comparison, comparison
from stockpot.reporting.words.estimates import Estimate, read_estimate

BEST = "best ingredient"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        name: "best ingredient", or the model's own name.
        detail: the model's name, if `name` is not; or what a baseline is made of.
        model: the model's name in the manifests; "" for one that is no checkpoint of this run.
        kind: base, ingredient, soup, tuned, ensemble, repeats, or baseline.
        val: score on val, not in percent; None if it was not recorded.
        test: score on test.
        shift: mean score over the test shifts; None without shifts.
        against_shift: `shift` compared with that of the best ingredient, paired.
        against_test: `test` compared with that of the best ingredient, paired.
        num_models: number of models that run per prediction.
        metrics: all metrics of the model; empty for a mean of several.
        cost: of a prediction, as far as known: parameters, bytes, flops.
    """

    name: str
    detail: str
    model: str
    kind: str
    val: Estimate | None
    test: Estimate | None
    shift: Estimate | None
    against_shift: Comparison | None = None
    against_test: Comparison | None = None
    num_models: int = 1
    metrics: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)


def results_table(evaluation: Manifest) -> list[Row]:
    """Build the rows.

    Returns:
        Base, best and mean ingredient, random soups, soups, tuned soups, the best interpolation of
        base and soup, ensembles, repeats; without those that a run has none of.
    """
    rows = [
        *_rows(evaluation, "base"),
        _row(BEST, best_ingredient(evaluation), evaluation),
        mean_ingredient(evaluation),
        random_soups(evaluation),
        *_rows(evaluation, "soup", "tuned"),
        wise_ft(evaluation),
        *_rows(evaluation, "ensemble", "repeats"),
    ]
    return [row for row in rows if row is not None]


def mean_ingredient(evaluation: Manifest) -> Row | None:
    """Return the mean scores of the ingredients; None for one ingredient."""
    ingredients, metric = models_of(evaluation, "ingredient"), evaluation["metric"]
    if len(ingredients) < 2:
        return None
    means = {
        place: fmean(model["metrics"][name] for model in ingredients)
        for place, name in _metric_names(metric).items()
        if all(name in model["metrics"] for model in ingredients)
    }
    return _row_of_means("mean ingredient", "", "ingredient", means)


def random_soups(evaluation: Manifest) -> Row | None:
    """Return the mean scores of random soups with as many ingredients as the best soup.

    If the best soup has all ingredients, random soups of any size are used instead. None without
    random soups or without soups.
    """
    best = best_soup(evaluation)
    rows = random_rows(evaluation, best["name"]) if best is not None else []
    if not rows:
        return None
    size = rows[0].get("size")
    name = "random soup" if size is None else f"random soup of {size}"
    means = {row["place"]: row["mean"] for row in rows}
    return _row_of_means(name, "mean of many", "baseline", means)


def random_rows(evaluation: Manifest, model: str) -> list[Mapping[str, Any]]:
    """Return the comparisons of a model with random soups: of its size, else of any size."""
    drawn = evaluation.get("random_soups", {}).get("rows", [])
    own = [row for row in drawn if row["model"] == model]
    num_ingredients = len(models_of(evaluation, "ingredient"))
    matched = [r for r in own if r["pool"] == "matched" and r["size"] != num_ingredients]
    return matched or [{**row, "size": None} for row in own if row["pool"] == "any"]


def wise_ft(evaluation: Manifest) -> Row | None:
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
    scores = {name: path[name][place] for name in ("val", "test", "shift") if path.get(name)}
    return _row_of_means(f"WiSE-FT {alpha:g}", f"{path['model']} and base", "baseline", scores)


def _rows(evaluation: Manifest, *kinds: str) -> list[Row]:
    return [_row(model["name"], model, evaluation) for model in models_of(evaluation, *kinds)]


def _row(name: str, model: ModelEntry, evaluation: Manifest) -> Row:
    metrics = model["metrics"]
    scores = {
        place: read_estimate(metrics, metric)
        for place, metric in _metric_names(evaluation["metric"]).items()
    }
    return Row(
        name=name,
        detail=model["name"] if name != model["name"] else "",
        model=model["name"],
        kind=model["kind"],
        **scores,
        against_shift=comparison(evaluation, model["name"], SHIFT),
        against_test=comparison(evaluation, model["name"], TEST),
        num_models=model["cost"]["num_models"],
        metrics=metrics,
        cost=model["cost"],
    )


def _metric_names(metric: str) -> dict[str, str]:
    return {"val": f"val/{metric}", "test": f"test/{metric}", "shift": f"shift/mean/{metric}"}


def _row_of_means(name: str, detail: str, kind: str, scores: Mapping[str, float]) -> Row:
    """Return the row of what is no checkpoint of this run: its scores have no intervals."""
    val, test, shift = (
        Estimate(scores[place]) if place in scores else None for place in ("val", "test", "shift")
    )
    return Row(name, detail, "", kind, val, test, shift)
