"""What soups keep under shift beyond what their score on test already promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from stockpot.statistics.bootstrap import Bootstrap
from stockpot.statistics.intervals import Intervals
from stockpot.statistics.values import Floats, are_fractions

_FEWEST = 3  # ingredients: a line through two fits them whatever they are
_MOST = 0.9  # of the resamples must have a line
_EQUAL = 1e-18  # a smaller variance of scores, on the probit scale, is rounding


def effective_robustness(
    test: Mapping[str, Floats],
    shift: Mapping[str, Floats],
    kinds: Mapping[str, str],
    intervals: Intervals,
) -> dict[str, Any]:
    """Fit the ingredients' scores under shift to their scores on test, and measure from that line.

    The scores of models that were trained alike lie near a line on probit scales. A model above
    it is robust beyond what its score on test explains. Scores of 0 and 1, whose probits are
    infinite, count as half an example away from them.

    Args:
        test: values in [0, 1] of each model's N test examples, (N,).
        shift: values whose mean is that over the test shifts: of the same examples, (N,), or of
            others, (M,), which are then resampled by themselves.
        kinds: of the same models; the line is fitted to those of kind `ingredient`.
        intervals: how many resamples of the N examples, and the confidence. Each resample has a
            line of its own, so an interval holds the line's uncertainty too.

    Returns:
        `scale`, `num_fitted` and, where there is a line, `slope` and `intercept`, in probits.
        `rows`: for each model that is no ingredient its `gain`, a fraction (its score under shift
        less the line's at its score on test), `low` and `high`, and whether the line
        `is_extrapolated`, since no ingredient is as good, or as bad, on test. Where there is no
        line, a `note` says why.

    Source: Taori et al. 2020, https://arxiv.org/abs/2007.00644 (effective robustness); Miller
    et al. 2021, https://arxiv.org/abs/2107.04649 (probit scale).
    """
    ingredients = [name for name, kind in kinds.items() if kind == "ingredient"]
    found: dict[str, Any] = {"scale": "probit", "num_fitted": len(ingredients), "rows": []}
    if len(ingredients) < _FEWEST:
        return found | {"note": f"a line needs {_FEWEST} ingredients, got {len(ingredients)}"}
    if not all(are_fractions(values) for values in test.values()):
        return found | {"note": "the metric is no fraction, and has no probit"}
    resamples = [_resamples(values[ingredients[0]], intervals) for values in (test, shift)]
    scores = {
        name: np.stack([_probits(test[name], resamples[0]), _probits(shift[name], resamples[1])])
        for name in kinds
    }  # (2, R + 1), what was seen first
    slopes, intercepts = _lines(*np.stack([scores[name] for name in ingredients], axis=1))
    if not np.isfinite(slopes[0]) or np.isfinite(slopes).mean() < _MOST:
        return found | {"note": "the ingredients score alike on test, which gives a line no slope"}
    reached = [scores[name][0, 0] for name in ingredients]
    rows = [
        {"model": name, "kind": kind}
        | _gain(scores[name], slopes, intercepts, intervals.confidence)
        | {"is_extrapolated": bool(not min(reached) <= scores[name][0, 0] <= max(reached))}
        for name, kind in kinds.items()
        if kind != "ingredient"
    ]
    return found | {"slope": float(slopes[0]), "intercept": float(intercepts[0]), "rows": rows}


def _resamples(values: Floats, intervals: Intervals) -> Bootstrap:
    """Return the resamples of examples; equal ones for as many."""
    return Bootstrap(len(values), intervals.resamples, intervals.confidence, intervals.seed)


def _probits(values: Floats, resamples: Bootstrap) -> Floats:
    """Return the probit of the mean of values (N,), then of that in each resample; (R + 1,)."""
    means = np.concatenate([[values.mean()], resamples.means(values)])
    half = 0.5 / len(values)
    return np.asarray(ndtri(means.clip(half, 1 - half)))


def _lines(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Fit a line by least squares to each column of M points; NaN where all x are one.

    Args:
        x: (M, R).
        y: (M, R).

    Returns:
        Slopes and intercepts; (R,).
    """
    from_mean = x - x.mean(axis=0)
    variances = (from_mean**2).mean(axis=0)
    variances[variances < _EQUAL] = np.nan
    slopes = (from_mean * y).mean(axis=0) / variances
    return slopes, y.mean(axis=0) - slopes * x.mean(axis=0)


def _gain(
    scores: Floats, slopes: Floats, intercepts: Floats, confidence: float
) -> dict[str, float]:
    """Return a model's height above the line, with the percentile interval of the resamples."""
    gains = ndtr(scores[1]) - ndtr(slopes * scores[0] + intercepts)  # (R + 1,)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(gains[1:], [tail, 1 - tail])
    return {"gain": float(gains[0]), "low": float(low), "high": float(high)}
