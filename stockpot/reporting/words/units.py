"""The unit of each metric of an evaluation."""

from __future__ import annotations

from stockpot.metric_units import Unit, unit_of_scores
from stockpot.reporting.results import Manifest

# Prefixes of metrics that are no fractions, for those that a manifest does not list: derived
# metrics, and all metrics in manifests of older versions.
_UNBOUNDED = ("nll", "brier", "temperature", "loss", "perplexity", "rmse", "mae", "r2")


def unit_of(evaluation: Manifest, metric: str | None = None) -> Unit:
    """Return the unit of a metric, by default of the first one, by which models are compared.

    A metric that is no fraction has three decimals if the first one is a fraction, otherwise as
    many as its size requires.
    """
    first = evaluation["metric"]
    name = first if metric is None else metric
    if _is_fraction(evaluation, name):
        return Unit(name)
    if _is_fraction(evaluation, first):
        return Unit(name, is_fraction=False)
    judged = [model["metrics"] for model in evaluation["models"]]
    scores = [metrics[f"test/{name}"] for metrics in judged if f"test/{name}" in metrics]
    return unit_of_scores(name, scores, is_fraction=False)


def _is_fraction(evaluation: Manifest, metric: str) -> bool:
    known = evaluation.get("is_fraction", {})
    return bool(known.get(metric, not metric.startswith(_UNBOUNDED)))
