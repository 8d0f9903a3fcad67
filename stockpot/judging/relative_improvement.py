"""Comparison of soups with random soups: is a selection better than chance?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stockpot.judging.merged_values import load_values
from stockpot.judging.random_soups import RandomSoupsJob, num_used
from stockpot.statistics.intervals import Intervals
from stockpot.statistics.values import Floats, snapped
from stockpot.storage.models import Model


def relative_improvement(values: Floats, draws: Floats, intervals: Intervals) -> dict[str, float]:
    """Compare a soup with random ones by a paired bootstrap over examples and random soups.

    Args:
        values: per-example values of the soup; (N,).
        draws: per-example values of D random soups; (D, N).
        intervals: its resamples of the examples, confidence and seed.

    Returns:
        `mean` and `sd` of the random soups' scores; `ri`, the relative improvement
        (score - mean) / |mean|, 0 if the mean is 0; `low` and `high`, the ends of its interval;
        `percentile`, the share of the random soups with a lower score, equal scores counted half.
    """
    scale = float(max(np.abs(draws).max(), np.abs(values).max()))
    scores = snapped(draws.mean(axis=1), scale)
    score, mean = snapped(values.mean(), scale), float(scores.mean())
    found = {
        "mean": mean,
        "sd": float(scores.std(ddof=1)) if len(scores) > 1 else 0.0,
        "percentile": float(((scores < score).mean() + (scores <= score).mean()) / 2),
    }
    if mean == 0:
        return found | {"ri": 0.0, "low": 0.0, "high": 0.0}
    bootstrap = intervals.bootstrap(len(values))
    # Differences first, so that a soup that equals all draws improves by exactly 0.
    differences = values - draws
    by_draw = bootstrap.means(differences.T)  # (resamples, D)
    even = np.full(len(draws), 1 / len(draws))
    generator = np.random.default_rng([intervals.seed, len(draws)])
    shares = generator.multinomial(len(draws), even, size=len(by_draw)) / len(draws)
    gains = (by_draw * shares).sum(axis=1)
    means = bootstrap.means(values) - gains
    tails = ((1 - intervals.confidence) / 2, (1 + intervals.confidence) / 2)
    low, high = np.quantile(gains[means != 0] / np.abs(means[means != 0]), tails)
    ri = float(snapped(differences.mean(), scale)) / abs(mean)
    return found | {"ri": ri, "low": float(low), "high": float(high)}


def random_soup_rows(
    soups: Sequence[Model],
    values: Mapping[str, Mapping[str, Floats]],
    jobs: Sequence[RandomSoupsJob],
    intervals: Intervals,
) -> list[dict[str, Any]]:
    """Compare soups with random ones of their size and of any size, tuned ones with mixtures.

    Args:
        soups: soups and tuned soups.
        values: per-example values (N,) by model and place: `val`, `test` and `shift`, an example's
            mean over the test shifts.
        jobs: the pools, which are measured.
        intervals: computes the intervals.

    Returns:
        One row per soup, pool and place, of plain values: `model`, `pool`, `size` (None unless
        the pool is `matched`), `place`, the keys of `relative_improvement`, and a `note`, empty
        unless the comparison is meaningless.
    """
    rows = []
    for job in jobs:
        compared = [soup for soup in soups if _belongs(soup, job)]
        for place, draws in load_values(job.root, job.workload, job.merges).items():
            for model in compared:
                own = values[model.name][place]
                with_own = _with_own(own, draws, model, job)
                found = relative_improvement(own, with_own, intervals)
                row = {"model": model.name, "pool": job.pool, "size": job.size, "place": place}
                rows.append(row | found | {"note": _note(job, found["mean"])})
    table = [soup.name for soup in soups]
    return sorted(rows, key=lambda row: table.index(row["model"]))


def _with_own(own: Floats, draws: Floats, model: Model, job: RandomSoupsJob) -> Floats:
    """Replace the values of draws that equal the soup by the soup's own.

    Weights that were summed in another order differ in their last bits.
    """
    coefficients = _coefficients(model, job)
    is_same = np.array([row == coefficients for row in job.coefficients])
    return np.where(is_same[:, None], own, draws)


def _note(job: RandomSoupsJob, mean: float) -> str:
    if mean == 0:
        return "the mean of random soups is 0, so there is no relative improvement"
    if len(job.ingredients) == 1:
        return "there is one ingredient, so there is nothing to select"
    only_one = job.pool == "matched" and job.size == len(job.ingredients)
    return "the soup has all ingredients, so it is the only one of its size" if only_one else ""


def _belongs(soup: Model, job: RandomSoupsJob) -> bool:
    """Report whether a soup is compared with a pool."""
    match job.pool:
        case "matched":
            return num_used(soup) == job.size
        case "dirichlet":
            return soup.kind == "tuned"
        case "any":
            return True


def _coefficients(model: Model, job: RandomSoupsJob) -> tuple[float, ...] | None:
    """Return a soup's coefficients in the order of a draw's; None if it is no weighted mean."""
    if model.details["recipe"]["method"] != "linear" or "layer_coefficients" in model.details:
        return None
    coefficients = model.details["coefficients"]
    return tuple(coefficients.get(ingredient.name, 0.0) for ingredient in job.ordered)
