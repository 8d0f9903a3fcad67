"""How well scores rank positives above negatives; each column is one ranking."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stockpot.statistics.values import Floats


def average_precisions(scores: Floats, positives: NDArray[np.bool_]) -> Floats:
    """Return the average precision of each column; NaN for one without positives.

    The sum over thresholds of (recall - recall before) x precision; equal scores are one threshold.

    Args:
        scores: (N, K).
        positives: (N, K), which examples should be ranked first.
    """
    ordered, hits = _best_first(scores, positives)
    _, last = _ties(ordered)
    found = np.take_along_axis(hits.cumsum(axis=0), last, axis=0)
    precisions = found / (last + 1)
    return _divide((precisions * hits).sum(axis=0), hits.sum(axis=0))


def areas_under_roc(scores: Floats, positives: NDArray[np.bool_]) -> Floats:
    """Return the area under the ROC curve of each column; NaN without positives or negatives.

    The share of (positive, negative) pairs in which the positive has the higher score, where equal
    scores count half.

    Source: Mann-Whitney U by mean ranks (Fawcett 2006, section 7).

    Args:
        scores: (N, K).
        positives: (N, K), which examples should be ranked first.
    """
    ordered, hits = _best_first(scores, positives)
    first, last = _ties(ordered)
    ranks = len(scores) - (first + last) / 2  # from 1, the lowest score, on
    num_positives = hits.sum(axis=0)
    pairs_won = (ranks * hits).sum(axis=0) - num_positives * (num_positives + 1) / 2
    return _divide(pairs_won, num_positives * (len(scores) - num_positives))


def _best_first(scores: Floats, positives: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    order = np.argsort(-scores, axis=0)
    return np.take_along_axis(scores, order, axis=0), np.take_along_axis(positives, order, axis=0)


def _ties(ordered: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the start and end of the run of equal scores of each entry; (N, K) both."""
    size = len(ordered)
    places = np.arange(size)[:, None]
    changes = ordered[1:] != ordered[:-1]
    edge = np.ones((1, ordered.shape[1]), dtype=bool)
    starts = np.concatenate([edge, changes])
    ends = np.concatenate([changes, edge])
    first = np.maximum.accumulate(np.where(starts, places, 0), axis=0)
    last = np.minimum.accumulate(np.where(ends, places, size)[::-1], axis=0)[::-1]
    return first, last


def _divide(totals: Floats, counts: NDArray[np.int_]) -> Floats:
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        return totals / counts
