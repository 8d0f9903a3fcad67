"""How much better a soup is than random ones: is a choice better than luck?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stockpot.judging.merged_values import load_values
from stockpot.judging.random_soups import RandomSoupsJob, num_used
from stockpot.statistics.bootstrap import Bootstrap
from stockpot.statistics.values import Floats, snapped
from stockpot.storage.models import Model


@dataclass(frozen=True, slots=True)
class RelativeImprovement:
    """A score among those of random soups.

    Attributes:
        mean: of the random soups' scores.
        sd: of the random soups' scores.
        ri: the score less that mean, as a fraction of it; 0 where the mean is 0.
        low: lower end of its interval.
        high: upper end of its interval.
        percentile: share of the random soups that score lower, those that score the same counted
            half; in [0, 1].
    """

    mean: float
    sd: float
    ri: float
    low: float
    high: float
    percentile: float


def relative_improvement(
    values: Floats, draws: Floats, bootstrap: Bootstrap, *, confidence: float, seed: int
) -> RelativeImprovement:
    """Compare a soup with random ones; a paired bootstrap over examples and random soups.

    Other examples and other random soups could have been drawn, so both are resampled; the soup
    and the random ones see the same examples.

    Args:
        values: of the soup, by example; (N,).
        draws: of D random soups; (D, N).
        bootstrap: the resamples of the N examples.
        confidence: of the interval, in (0, 1).
        seed: of the resamples of random soups.
    """
    scale = float(max(np.abs(draws).max(), np.abs(values).max()))
    scores = snapped(draws.mean(axis=1), scale)
    score, mean = snapped(values.mean(), scale), float(scores.mean())
    below = float(((scores < score).mean() + (scores <= score).mean()) / 2)
    sd = float(scores.std(ddof=1)) if len(scores) > 1 else 0.0
    if mean == 0:
        return RelativeImprovement(mean, sd, 0.0, 0.0, 0.0, below)
    # Differences first: where all are 0, so is what comes of them, to the last bit.
    differences = values - draws
    by_draw = bootstrap.means(differences.T)  # (resamples, D)
    even = np.full(len(draws), 1 / len(draws))
    generator = np.random.default_rng([seed, len(draws)])
    shares = generator.multinomial(len(draws), even, size=len(by_draw)) / len(draws)
    gains = (by_draw * shares).sum(axis=1)
    means = bootstrap.means(values) - gains
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    low, high = np.quantile(gains[means != 0] / np.abs(means[means != 0]), tails)
    ri = float(snapped(differences.mean(), scale)) / abs(mean)
    return RelativeImprovement(mean, sd, ri, float(low), float(high), below)


def random_soup_rows(
    soups: Sequence[Model],
    values: Mapping[str, Mapping[str, Floats]],
    jobs: Sequence[RandomSoupsJob],
    *,
    resamples: int,
    confidence: float,
) -> list[dict[str, Any]]:
    """Compare soups with random ones: of their size, of any size, and tuned ones with mixtures.

    Args:
        soups: soups and tuned soups.
        values: per-example values (N,) by model and place: `val`, `test` and `shift`, an example's
            mean over the test shifts.
        jobs: the pools, which are measured.
        resamples: of the bootstrap.
        confidence: of the intervals, in (0, 1).

    Returns:
        A row a soup, pool and place, of plain values: `model`, `pool`, `size` (None but for
        `matched`), `place`, the fields of `RelativeImprovement`, and a `note` where these
        say nothing.
    """
    bootstraps: dict[int, Bootstrap] = {}

    def bootstrap(num_examples: int) -> Bootstrap:
        if num_examples not in bootstraps:
            seed = jobs[0].seed
            bootstraps[num_examples] = Bootstrap(num_examples, resamples, confidence, seed)
        return bootstraps[num_examples]

    rows = []
    for job in jobs:
        compared = [soup for soup in soups if _belongs(soup, job)]
        for place, draws in load_values(job.root, job.workload, job.merges).items():
            for model in compared:
                own = values[model.name][place]
                found = relative_improvement(
                    own,
                    _with_own(own, draws, model, job),
                    bootstrap(len(own)),
                    confidence=confidence,
                    seed=job.seed,
                )
                row = {"model": model.name, "pool": job.pool, "size": job.size, "place": place}
                rows.append(row | asdict(found) | {"note": _note(job, found.mean)})
    table = [soup.name for soup in soups]
    return sorted(rows, key=lambda row: table.index(row["model"]))


def _with_own(own: Floats, draws: Floats, model: Model, job: RandomSoupsJob) -> Floats:
    """Put a soup's own values where a draw is that soup.

    It may have been summed in another order, and then its weights differ in the last bits.
    """
    coefficients = _coefficients(model, job)
    is_same = np.array([row == coefficients for row in job.coefficients])
    return np.where(is_same[:, None], own, draws)


def _note(job: RandomSoupsJob, mean: float) -> str:
    if mean == 0:
        return "random soups score 0: nothing is relative to that"
    if len(job.ingredients) == 1:
        return "one ingredient: there is nothing to select"
    only_one = job.pool == "matched" and job.size == len(job.ingredients)
    return "all ingredients: there is one soup of this size" if only_one else ""


def _belongs(soup: Model, job: RandomSoupsJob) -> bool:
    """Say whether a soup is compared with those of a pool."""
    match job.pool:
        case "matched":
            return num_used(soup) == job.size
        case "dirichlet":
            return soup.kind == "tuned"
        case "any":
            return True


def _coefficients(model: Model, job: RandomSoupsJob) -> tuple[float, ...] | None:
    """Return a soup's coefficients as those of a draw; None for one that is no weighted mean."""
    if model.details["recipe"]["method"] != "linear" or "layer_coefficients" in model.details:
        return None
    coefficients = model.details["coefficients"]
    return tuple(coefficients.get(ingredient.name, 0.0) for ingredient in job.ordered)
