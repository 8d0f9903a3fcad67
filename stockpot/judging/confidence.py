"""Confidence of classifiers: calibrated on val, measured on test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from stockpot.judging.conformal import coverage, fit_threshold, prediction_sets
from stockpot.judging.contestants import OutputsOnSet
from stockpot.judging.temperature import fit_temperature
from stockpot.scoring.metrics.calibration import equal_width_bins
from stockpot.scoring.metrics.classification import brier_per_example, ece, nll_per_example
from stockpot.scoring.metrics.metric import TaskMetric
from stockpot.statistics.intervals import Intervals

_BLOCK = 100  # resamples in memory at once

SCALED = (
    TaskMetric("nll_scaled", False, lambda z, targets: float(nll_per_example(z, targets).mean())),
    TaskMetric("brier_scaled", False, lambda z, t: float(brier_per_example(z, t).mean())),
    TaskMetric("ece_scaled", False, ece),
)
"""Metrics of outputs divided by their temperature."""


def temperatures(val: OutputsOnSet) -> dict[str, float]:
    """Fit the temperature of each model with finite logits (N, C) on val; by name."""
    return {
        name: fit_temperature(logits, val.targets)
        for name, logits in val.outputs.items()
        if is_finite(logits)
    }


def conformal_rows(
    val: OutputsOnSet, test: OutputsOnSet, names: Iterable[str], alpha: float, confidence: float
) -> list[dict[str, Any]]:
    """Return coverage and mean size of the models' prediction sets on test; one row per model.

    Sets are calibrated on val. Soups and ensembles were chosen or fitted on val too, which can
    lower their coverage below 1 - alpha.

    Args:
        val: finite logits (N, C) and classes (N,), for calibration.
        test: finite logits and classes, for the coverage.
        names: which models.
        alpha: share of sets that may miss the target.
        confidence: of the interval.
    """
    rows = []
    for name in names:
        threshold = fit_threshold(val.outputs[name], val.targets, alpha)
        sets = prediction_sets(test.outputs[name], threshold)
        found = coverage(sets, test.targets, confidence)
        rows.append({"model": name, "alpha": alpha} | found)
    return rows


def ece_of_chance(outputs: Tensor, intervals: Intervals) -> float:
    """Return the upper limit of the calibration error of a perfectly calibrated model.

    On finitely many examples the error is positive by chance alone, and the bootstrap does not
    correct for that. The limit is a quantile of the errors of a model with the same confidences
    that is right with just these probabilities.

    Args:
        outputs: logits (N, C).
        intervals: its number of resamples, confidence (the quantile) and seed.

    Source: Broecker and Smith 2007, https://doi.org/10.1175/WAF993.1: consistency resampling;
    Vaicenavicius et al. 2019, https://arxiv.org/abs/1902.06977, section 4.
    """
    confidences = np.sort(outputs.double().softmax(dim=1).max(dim=1).values.numpy())
    starts = np.unique(equal_width_bins(confidences), return_index=True)[1]
    generator = np.random.default_rng([intervals.seed, len(confidences)])
    resamples = intervals.resamples
    errors = []
    for block in np.array_split(np.arange(resamples), -(-resamples // _BLOCK)):
        is_right = generator.random((len(block), len(confidences))) < confidences
        gaps = np.add.reduceat(confidences - is_right, starts, axis=1)  # (R, bins)
        errors.append(np.abs(gaps).sum(axis=1) / len(confidences))
    return float(np.quantile(np.concatenate(errors), intervals.confidence))


def is_finite(outputs: Tensor) -> bool:
    """Report whether no output is NaN or infinite; a merge can overflow."""
    return bool(outputs.isfinite().all())
