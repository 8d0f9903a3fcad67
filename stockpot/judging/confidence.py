"""How sure classifiers are, and how rightly: calibrated on val, looked at on test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor

from stockpot.judging.conformal import coverage, fit_threshold, prediction_sets
from stockpot.judging.contestants import OnSet
from stockpot.judging.temperature import fit_temperature
from stockpot.scoring.metrics.calibration import equal_width_bins, reliability
from stockpot.scoring.metrics.classification import brier_of_each, ece, nll_of_each
from stockpot.scoring.metrics.metric import TaskMetric

_BLOCK = 100  # resamples that are held at once

SCALED = (
    TaskMetric("nll_scaled", False, lambda z, targets: float(nll_of_each(z, targets).mean())),
    TaskMetric("brier_scaled", False, lambda z, targets: float(brier_of_each(z, targets).mean())),
    TaskMetric("ece_scaled", False, ece),
)
"""Metrics of outputs that were divided by their temperature."""


def temperatures(val: OnSet) -> dict[str, float]:
    """Fit the temperature of each model whose logits (N, C) on val are finite, by name."""
    return {
        name: fit_temperature(logits, val.targets)
        for name, logits in val.outputs.items()
        if is_finite(logits)
    }


def reliability_data(
    test: OnSet, names: Iterable[str], temperature_of: Mapping[str, float]
) -> dict[str, Any]:
    """Return how sure and how right models are on test, as they are (`bins`) and `scaled`.

    Args:
        test: finite logits (N, C) and classes (N,).
        names: which models.
        temperature_of: by model, fitted on val.
    """
    return {
        name: {
            "bins": reliability(test.outputs[name], test.targets),
            "scaled": reliability(test.outputs[name] / temperature_of[name], test.targets),
        }
        for name in names
    }


def conformal_rows(
    val: OnSet, test: OnSet, names: Iterable[str], alpha: float, confidence: float
) -> list[dict[str, Any]]:
    """Return how often the sets of these models hold the target on test, and how large they are.

    Soups and ensembles were chosen or fitted on the val that the sets are calibrated on, so a
    coverage below 1 - alpha may be the price of that.

    Args:
        val: finite logits (N, C) and classes (N,), to calibrate on.
        test: likewise, to look at.
        names: which models.
        alpha: share of sets that may miss.
        confidence: of the interval.
    """
    rows = []
    for name in names:
        threshold = fit_threshold(val.outputs[name], val.targets, alpha)
        sets = prediction_sets(test.outputs[name], threshold)
        found = coverage(sets, test.targets, confidence)
        rows.append({"model": name, "alpha": alpha, **asdict(found)})
    return rows


def ece_of_chance(outputs: Tensor, *, resamples: int, confidence: float, seed: int) -> float:
    """Return the calibration error that a calibrated model stays below with this confidence.

    With finitely many examples, chance alone makes the error positive, and the bootstrap does not
    take that off. So the error is compared with those of a model that is as sure of each example,
    and right as often as it is sure.

    Args:
        outputs: logits (N, C).
        resamples: how often it is drawn which examples such a model has right.
        confidence: in (0, 1).
        seed: of the draws.

    Source: Broecker and Smith 2007, https://doi.org/10.1175/WAF993.1: consistency resampling;
    Vaicenavicius et al. 2019, https://arxiv.org/abs/1902.06977, section 4.
    """
    confidences = np.sort(outputs.double().softmax(dim=1).max(dim=1).values.numpy())
    starts = np.unique(equal_width_bins(confidences), return_index=True)[1]
    generator = np.random.default_rng([seed, len(confidences)])
    errors = []
    for block in np.array_split(np.arange(resamples), -(-resamples // _BLOCK)):
        is_right = generator.random((len(block), len(confidences))) < confidences
        gaps = np.add.reduceat(confidences - is_right, starts, axis=1)  # (R, bins)
        errors.append(np.abs(gaps).sum(axis=1) / len(confidences))
    return float(np.quantile(np.concatenate(errors), confidence))


def is_finite(outputs: Tensor) -> bool:
    """Say whether no output is NaN or infinite; a merge can overflow."""
    return bool(outputs.isfinite().all())
