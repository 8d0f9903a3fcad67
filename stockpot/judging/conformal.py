"""Split conformal prediction: sets of classes that contain the target with a given probability."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stockpot.statistics.intervals import clopper_pearson


def fit_threshold(outputs: Tensor, targets: Tensor, alpha: float) -> float:
    """Return the lowest probability of a class in a prediction set.

    On exchangeable examples, sets contain the target with probability at least 1 - alpha, and at
    most 1 / (N + 1) more if no two scores are equal.

    Args:
        outputs: logits (N, C) on val.
        targets: classes (N,).
        alpha: share of sets that may miss the target, in (0, 1).

    Returns:
        A probability; -inf, so that sets contain all classes, if N < 1 / alpha - 1.

    Raises:
        ValueError: `alpha` is outside (0, 1).

    Source: Sadinle et al. 2019 (https://arxiv.org/abs/1609.00451), least ambiguous sets, with the
    ceil((N + 1)(1 - alpha))-th smallest of the scores 1 - p(target).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"conformal sets: alpha must be in (0, 1), got {alpha}")
    probabilities = outputs.double().softmax(dim=1).gather(1, targets[:, None]).flatten()
    place = math.ceil((len(probabilities) + 1) * (1 - alpha))
    if place > len(probabilities):
        return -math.inf
    return float(probabilities.sort(descending=True).values[place - 1])


def prediction_sets(outputs: Tensor, threshold: float) -> Tensor:
    """Return which classes are in the set of each example; (N, C), bool. A set may be empty."""
    return outputs.double().softmax(dim=1) >= threshold


def coverage(sets: Tensor, targets: Tensor, confidence: float) -> dict[str, float]:
    """Measure how often sets contain the targets.

    Args:
        sets: which classes are in the set of each example, (N, C), bool.
        targets: classes (N,).
        confidence: of the interval, in (0, 1).

    Returns:
        `coverage`, the share of examples whose set contains the target; `low` and `high`, the ends
        of its Clopper-Pearson interval; `mean_size`, the mean number of classes in a set.
    """
    num_covered, num_examples = int(sets.gather(1, targets[:, None]).sum()), len(targets)
    low, high = clopper_pearson(num_covered, num_examples, confidence)
    mean_size = float(sets.sum(dim=1, dtype=torch.float64).mean())
    share = num_covered / num_examples
    return {"coverage": share, "low": low, "high": high, "mean_size": mean_size}
