"""The score of a mean as a function of the number of ingredients: is training more worth it?"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import t

from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.finding import Finding
from stockpot.diagnostics.shapley import Members
from stockpot.diagnostics.subset_scores import PLACES, Survey, about_sample, places, survey
from stockpot.metric_units import Unit
from stockpot.statistics.values import Floats, snapped

_BAND = (0.1, 0.9)  # quantiles over subsets of one size
_LEAST = 4  # ingredients: leaving one out, two sizes from 2 on remain for the fit
_WORTH_TRAINING = 0.001  # of a fraction, or of a usual score: less is not worth more training


def soup_size(context: DiagnosticContext) -> Finding:
    """Predict what one more ingredient, and as many again, would add to the mean of all.

    The expected score of a mean of k ingredients is a + b / k if the loss is quadratic in the
    weights, since the mean of k independent draws has 1 / k of their variance. It is fitted from
    k = 2 on: single ingredients are too far from the others for the quadratic approximation.
    """
    num = len(context.ingredients)
    if num == 1:
        return Finding("There is only one ingredient, so there is no mean whose size could matter.")
    surveyed = survey(context, context.ingredients)
    curves = {place: _curve(surveyed, number, num) for number, place in enumerate(places(context))}
    metrics = {
        f"{place}/{name}": curve[name]["value"]
        for place, curve in curves.items()
        for name in ("one_more", "as_many_again")
        if name in curve
    }
    data = {
        **context.described,
        "num_ingredients": num,
        "curves": curves,
        **surveyed.sampled,
    }
    sentence = _sentence(num, curves, context.unit) + about_sample(surveyed.sampled)
    return Finding(sentence, metrics, data)


def _curve(surveyed: Survey, place: int, num: int) -> dict[str, Any]:
    """Return the scores by size in one place, and the predicted gains."""
    by_size = surveyed.by_size[place]
    scores = {subset: float(own[place]) for subset, own in surveyed.scores.items() if subset}
    of_size = [[s for subset, s in scores.items() if len(subset) == k + 1] for k in range(num)]
    curve: dict[str, Any] = {
        "mean": [fmean(own) for own in of_size],
        "low": [float(np.quantile(own, _BAND[0])) for own in of_size],
        "high": [float(np.quantile(own, _BAND[1])) for own in of_size],
    }
    if num < _LEAST:
        return curve
    level, slope = fit(dict(enumerate(curve["mean"], 1)))
    error = slope_error(scores, by_size)
    more = {"one_more": 1, "as_many_again": num}
    gains = {name: gain(num, further, slope, error) for name, further in more.items()}
    return curve | {"level": level, "slope": slope} | gains


def fit(means: Mapping[int, float]) -> tuple[float, float]:
    """Fit the least squares a + b / k to mean scores by size k, from 2 on; return a and b."""
    sizes = [size for size in means if size > 1]
    scores = np.array([means[size] for size in sizes])
    level, slope = snapped(np.linalg.pinv(_design(sizes)) @ scores, np.abs(scores).max())
    return float(level), float(slope)


def slope_error(scores: Mapping[Members, float], by_size: Floats) -> float:
    """Return the standard error of the slope b over examples and over ingredients (jackknife).

    Args:
        scores: of subsets of the M ingredients.
        by_size: the mean per-example value of the subsets of each size; (M, N).

    Source: Efron and Stein 1981, The jackknife estimate of variance; the two kinds of sampling are
    independent, so their variances add up.
    """
    num, num_examples = by_size.shape
    sizes = range(2, num + 1)
    by_example = np.linalg.pinv(_design(list(sizes)))[1] @ by_size[1:]
    by_example = snapped(by_example, np.abs(by_size).max())  # (N,)
    of_examples = by_example.var(ddof=1) / num_examples if num_examples > 1 else 0.0
    without = np.array([fit(_means_without(member, scores))[1] for member in range(num)])
    of_ingredients = (num - 1) * without.var()
    return float(np.sqrt(of_examples + of_ingredients))


def gain(num: int, further: int, slope: float, error: float) -> dict[str, float]:
    """Return the gain of `num + further` over `num` ingredients by the fitted curve.

    Returns:
        Its `value`, and `low` and `high`, the ends of Student's 95 % interval with the num - 1
        degrees of freedom of the jackknife; in the metric's own unit.
    """
    share = 1 / (num + further) - 1 / num  # negative, as the slope mostly is
    value, half = share * slope + 0.0, float(t.ppf(0.975, num - 1)) * abs(share) * error
    return {"value": value, "low": value - half, "high": value + half}


def _design(sizes: list[int]) -> Floats:
    return np.array([[1, 1 / size] for size in sizes])


def _means_without(member: int, scores: Mapping[Members, float]) -> dict[int, float]:
    """Return mean scores by size of the subsets without an ingredient."""
    by_size: dict[int, list[float]] = {}
    for subset, score in scores.items():
        if member not in subset:
            by_size.setdefault(len(subset), []).append(score)
    return {size: fmean(own) for size, own in by_size.items()}


def _sentence(num: int, curves: Mapping[str, Mapping[str, Any]], unit: Unit) -> str:
    means = curves["val"]["mean"]
    seen = (
        f"On val a single ingredient scores {unit.score_in_full(means[0])} on average, the mean of "
        f"all {num} scores {unit.score_in_full(means[-1])}{_reached(means)}."
    )
    if num < _LEAST:
        return f"{seen} A prediction for more ingredients needs at least {_LEAST}."
    more = " and ".join(
        f"{unit.finely(curve['as_many_again']['value'])} {unit.points} on {PLACES[place]} (95 % "
        f"interval {unit.finely(curve['as_many_again']['low'])} to "
        f"{unit.finely(curve['as_many_again']['high'])})"
        for place, curve in curves.items()
    )
    one = " and ".join(unit.finely(curve["one_more"]["value"]) for curve in curves.values())
    return (
        f"{seen} {num} more ingredients would change the mean by {more}, one more by {one}: "
        f"{_advice(curves, unit)}."
    )


def _reached(means: list[float]) -> str:
    """State how many ingredients give nine tenths of the gain, if there is one."""
    total = means[-1] - means[0]
    if total <= 0:
        return ", so averaging gains nothing"
    enough = next(k for k, mean in enumerate(means, 1) if mean - means[0] >= 0.9 * total)
    return f"; {enough} give nine tenths of that gain"


def _advice(curves: Mapping[str, Mapping[str, Any]], unit: Unit) -> str:
    worth = _WORTH_TRAINING * unit.size
    doubled = {PLACES[place]: curve["as_many_again"] for place, curve in curves.items()}
    helped = [place for place, gain in doubled.items() if gain["low"] > 0]
    worse = [place for place, gain in doubled.items() if gain["high"] < 0]
    if any(doubled[place]["value"] >= worth for place in helped):
        return (
            f"training more helps on {' and '.join(helped)}, if that gain is worth twice the "
            "training"
        )
    if worse:
        return (
            f"more of them would make the mean worse on {' and '.join(worse)}, so select "
            "ingredients, or train them closer to each other"
        )
    if all(gain["high"] < worth for gain in doubled.values()):
        return "training more is not worth it"
    if helped:
        return "training more is hardly worth it"
    return "there are too few ingredients or val examples to know whether training more helps"
