"""Effective robustness: scores under shift beyond what the scores on test predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from stockpot.statistics.bootstrap import Bootstrap
from stockpot.statistics.intervals import Intervals
from stockpot.statistics.values import Floats, are_fractions

_FEWEST = 3  # a line through two always fits
_MIN_SHARE = 0.9  # of the resamples in which the line can be fitted
_EQUAL = 1e-18  # variance of probits: less is rounding


def effective_robustness(
    test: Mapping[str, Floats],
    shift: Mapping[str, Floats],
    kinds: Mapping[str, str],
    intervals: Intervals,
) -> dict[str, Any]:
    """Fit a line to the ingredients' scores under shift against test; measure models from it.

    The scores of models that were trained alike lie near a line on probit scales. A model above
    the line is more robust than its score on test explains. Scores of 0 and 1, whose probits are
    infinite, are moved by half an example.

    Args:
        test: per-example values in [0, 1] on test by model, (N,).
        shift: per-example values whose mean is that over the test shifts, by model: of the same
            examples, (N,), or of other ones, (M,), which are resampled separately.
        kinds: of the same models; the line is fitted to those of kind `ingredient`.
        intervals: its resamples and confidence. The line is fitted anew in each resample, so that
            intervals include its uncertainty.

    Returns:
        `scale`, `num_fitted` and, if a line was fitted, `slope` and `intercept`, in probits.
        `rows`: for each model but the ingredients its `gain`, a fraction (its score under shift
        minus the line's value at its score on test), `low` and `high`, and `is_extrapolated`,
        true if its score on test is outside the ingredients' range. Without a line, a `note`
        gives the reason.

    Source: Taori et al. 2020, https://arxiv.org/abs/2007.00644 (effective robustness); Miller
    et al. 2021, https://arxiv.org/abs/2107.04649 (probit scale).
    """
    ingredients = [name for name, kind in kinds.items() if kind == "ingredient"]
    found: dict[str, Any] = {"scale": "probit", "num_fitted": len(ingredients), "rows": []}
    if len(ingredients) < _FEWEST:
        return found | {"note": f"a line needs {_FEWEST} ingredients, got {len(ingredients)}"}
    if not all(are_fractions(values) for values in test.values()):
        return found | {"note": "the metric is not a fraction, so it has no probit"}
    resamples = [intervals.bootstrap(len(v[ingredients[0]])) for v in (test, shift)]
    scores = {
        name: np.stack([_probits(test[name], resamples[0]), _probits(shift[name], resamples[1])])
        for name in kinds
    }  # (2, R + 1); the observed scores come first
    slopes, intercepts = _lines(*np.stack([scores[name] for name in ingredients], axis=1))
    if not np.isfinite(slopes[0]) or np.isfinite(slopes).mean() < _MIN_SHARE:
        return found | {
            "note": "the ingredients have equal scores on test, so no line can be fitted"
        }
    fitted = [scores[name][0, 0] for name in ingredients]
    rows = [
        {"model": name, "kind": kind}
        | _gain(scores[name], slopes, intercepts, intervals.confidence)
        | {"is_extrapolated": bool(not min(fitted) <= scores[name][0, 0] <= max(fitted))}
        for name, kind in kinds.items()
        if kind != "ingredient"
    ]
    return found | {"slope": float(slopes[0]), "intercept": float(intercepts[0]), "rows": rows}


def _probits(values: Floats, resamples: Bootstrap) -> Floats:
    """Return the probits of the mean of values (N,) and of its R resamples; (R + 1,)."""
    means = np.concatenate([[values.mean()], resamples.means(values)])
    half = 0.5 / len(values)
    return np.asarray(ndtri(means.clip(half, 1 - half)))


def _lines(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Fit a line by least squares to each column of M points; NaN if all x are equal.

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
    """Return a model's distance above the line, with a percentile interval."""
    gains = ndtr(scores[1]) - ndtr(slopes * scores[0] + intercepts)  # (R + 1,)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(gains[1:], [tail, 1 - tail])
    return {"gain": float(gains[0]), "low": float(low), "high": float(high)}
