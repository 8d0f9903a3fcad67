"""Split conformal prediction sets: sets of classes that hold the target as often as was asked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often prediction sets hold the target, and how large they are.

    Attributes:
        coverage: share of examples whose set holds the target.
        low: lower end of its Clopper-Pearson interval.
        high: upper end.
        mean_size: mean number of classes in a set.
    """

    coverage: float
    low: float
    high: float
    mean_size: float


def fit_threshold(outputs: Tensor, targets: Tensor, alpha: float) -> float:
    """Return the probability from which on a class is in the set.

    On exchangeable examples, sets hold the target with probability at least 1 - alpha, and at most
    1 / (N + 1) more where no two scores are equal.

    Args:
        outputs: logits (N, C) on val.
        targets: classes (N,).
        alpha: share of sets that may miss, in (0, 1).

    Returns:
        A probability; -inf, which takes all classes in, where N < 1 / alpha - 1.

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


def coverage(sets: Tensor, targets: Tensor, confidence: float) -> Coverage:
    """Return how often sets (N, C) hold the targets (N,), with an interval over examples."""
    holds = sets.gather(1, targets[:, None])
    num_held, num_examples = int(holds.sum()), len(targets)
    low, high = clopper_pearson(num_held, num_examples, confidence)
    mean_size = float(sets.sum(dim=1, dtype=torch.float64).mean())
    return Coverage(num_held / num_examples, low, high, mean_size)


def clopper_pearson(num_right: int, num_examples: int, confidence: float) -> tuple[float, float]:
    """Return the exact interval of a share: what a binomial test at the level does not reject.

    Source: Clopper and Pearson 1934, in its beta form.
    """
    from scipy.special import betaincinv

    tail, num_wrong = (1 - confidence) / 2, num_examples - num_right
    low = betaincinv(num_right, num_wrong + 1, tail) if num_right else 0.0
    high = betaincinv(num_right + 1, num_wrong, 1 - tail) if num_wrong else 1.0
    return float(low), float(high)
