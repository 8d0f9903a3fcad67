"""Calibration: whether confidence equals the probability of being correct."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stockpot.statistics.values import Floats

NUM_BINS = 15

Binning = Callable[[Floats], NDArray[np.int_]]
"""Confidences (N,) -> the bin of each, from 0 to `NUM_BINS` - 1; (N,)."""


def equal_width_bins(confidences: Floats) -> NDArray[np.int_]:
    """Assign bins of equal width in (0, 1]; a confidence on an edge is in the lower bin."""
    bins: NDArray[np.int_] = np.ceil(confidences * NUM_BINS).astype(int) - 1
    return bins.clip(0, NUM_BINS - 1)


def equal_mass_bins(confidences: Floats) -> NDArray[np.int_]:
    """Assign bins of equally many examples; equal confidences are in one bin."""
    edges = np.quantile(confidences, np.arange(1, NUM_BINS) / NUM_BINS)
    return np.searchsorted(edges, confidences)


def expected_calibration_error(outputs: Tensor, targets: Tensor, binning: Binning) -> float:
    """Return the mean over examples of |confidence - accuracy| of their bin, in [0, 1].

    Confidence is the probability of the predicted class.

    Args:
        outputs: logits (N, C).
        targets: classes (N,).
        binning: assigns confidences to bins.

    Source: Guo et al. 2017 (https://arxiv.org/abs/1706.04599), equation 3, for equal widths; Nguyen
    and O'Connor 2015 for equal masses.
    """
    confidences, correct = _confidences(outputs, targets)
    gaps = np.bincount(binning(confidences), weights=confidences - correct, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(confidences))


def reliability(outputs: Tensor, targets: Tensor) -> list[dict[str, float]]:
    """Return mean confidence, accuracy and count of bins of equally many examples, in order.

    For a calibrated model, confidence and accuracy are equal in each bin, up to chance.
    """
    confidences, correct = _confidences(outputs, targets)
    bins = equal_mass_bins(confidences)
    return [
        {
            "confidence": float(confidences[bins == number].mean()),
            "accuracy": float(correct[bins == number].mean()),
            "count": int((bins == number).sum()),
        }
        for number in np.unique(bins)
    ]


def _confidences(outputs: Tensor, targets: Tensor) -> tuple[Floats, Floats]:
    """Return the probability of the predicted class, and whether it is the target; (N,) both."""
    confidences, predicted = outputs.double().softmax(dim=1).max(dim=1)
    return confidences.numpy(), (predicted == targets).double().numpy()
