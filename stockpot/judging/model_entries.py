"""The `models` of the evaluation manifest: one entry per contestant, with all its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stockpot.judging.confidence import ece_of_chance
from stockpot.judging.judgement import COMPARED, Judgement
from stockpot.statistics.estimates import Estimate

_SUMMARIES = ("val", "val_shift/mean", "test", "shift/mean")
"""Places where every mean over examples has an interval; elsewhere only the first metric has."""


def model_entries(
    judgement: Judgement, random_soups: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the identity and the metrics of each contestant.

    Args:
        judgement: all scores.
        random_soups: comparisons with random soups; the metric `ri/<place>` is the relative
            improvement over random soups of the same size.
    """
    return [
        identity
        | {
            "metrics": _metrics(judgement, name)
            | {
                f"ri/{row['place']}": row["ri"]
                for row in random_soups
                if (row["model"], row["pool"]) == (name, "matched")
            }
        }
        for name, identity in judgement.contestants.identities.items()
    ]


def _metrics(judgement: Judgement, name: str) -> dict[str, float]:
    """Return all metrics of one model in one flat mapping, with the ends of intervals."""
    scores, best = judgement.scores[name], judgement.contestants.best
    metrics = dict(scores.values)
    for full_name, values in scores.per_example.items():
        place, _, metric = full_name.rpartition("/")
        if metric == judgement.metric or place in _SUMMARIES:
            metrics |= _flat(full_name, judgement.intervals.estimate(values))
    if name != best:
        reference = judgement.values(best)
        for place, values in judgement.values(name).items():
            difference = judgement.intervals.difference(values, reference[place])
            metrics |= _flat(f"difference/{COMPARED[place]}/{judgement.metric}", difference)
    if name in judgement.temperature_of:
        metrics["temperature"] = judgement.temperature_of[name]
    if "test/ece" in metrics:
        outputs = judgement.test.outputs[name]
        metrics["test/ece_chance"] = ece_of_chance(outputs, judgement.intervals)
    return metrics


def _flat(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
