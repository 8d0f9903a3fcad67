"""Confidence intervals, each by a method whose coverage is close to the nominal one."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit

from stockpot.statistics.bootstrap import Bootstrap
from stockpot.statistics.estimates import Estimate
from stockpot.statistics.values import Floats, is_right_or_wrong


class Intervals:
    """Intervals of means over examples; all models share the resamples of a set of examples.

    Values of 0 and 1 get score intervals: Wilson's for a mean, Tango's for a difference. The
    bootstrap's would be too short if nearly all examples are right or two models differ on few,
    and have no width if all or none are. The mean of other values gets the BCa bootstrap, which
    corrects for skew, and their difference Student's interval: the skew of differences is mostly
    noise, and in simulations BCa covered 78 % of the time where Student's covered 98 %.
    """

    def __init__(self, resamples: int, confidence: float, seed: int) -> None:
        """Store the settings; resamples are drawn when they are first needed.

        Args:
            resamples: number of bootstrap resamples.
            confidence: of the intervals, in (0, 1).
            seed: of the resamples.
        """
        self.resamples = resamples
        self.confidence = confidence
        self.seed = seed
        self._by_size: dict[int, Bootstrap] = {}

    def estimate(self, values: Floats) -> Estimate:
        """Return the mean of per-example values (N,) with its interval."""
        if is_right_or_wrong(values):
            return wilson(int(values.sum()), len(values), self.confidence)
        return self.bootstrap(len(values)).bca(values)

    def difference(self, values: Floats, reference: Floats) -> Estimate:
        """Return the mean of `values - reference` (N,), example by example, with its interval."""
        if is_right_or_wrong(values) and is_right_or_wrong(reference):
            won, lost = int((values > reference).sum()), int((values < reference).sum())
            return tango(won, lost, len(values), self.confidence)
        return student(values - reference, self.confidence)

    def bootstrap(self, num_examples: int) -> Bootstrap:
        """Return the resamples of a set of this size, the same ones every time."""
        if num_examples not in self._by_size:
            drawn = Bootstrap(num_examples, self.resamples, self.confidence, self.seed)
            self._by_size[num_examples] = drawn
        return self._by_size[num_examples]


def wilson(num_right: int, num_examples: int, confidence: float) -> Estimate:
    """Return the share of right examples with its score interval.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    from scipy.stats import binomtest  # slow to import

    share = num_right / num_examples
    interval = binomtest(num_right, num_examples).proportion_ci(confidence, "wilson")
    # Rounding of the ends at 0 and 1 must not put the share outside.
    return Estimate(share, min(float(interval.low), share), max(float(interval.high), share))


def clopper_pearson(num_right: int, num_examples: int, confidence: float) -> tuple[float, float]:
    """Return the exact interval of a share: all shares that a binomial test does not reject.

    Source: Clopper and Pearson 1934, https://doi.org/10.1093/biomet/26.4.404.
    """
    from scipy.stats import binomtest

    interval = binomtest(num_right, num_examples).proportion_ci(confidence, "exact")
    return float(interval.low), float(interval.high)


def tango(won: int, lost: int, num_examples: int, confidence: float) -> Estimate:
    """Return the difference of two paired shares with its score interval.

    Args:
        won: number of examples that only the model has right.
        lost: number of examples that only the reference has right.
        num_examples: all examples.
        confidence: in (0, 1).

    Source: Tango 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B:
    the differences that the score test does not reject.
    """
    z = float(-ndtri((1 - confidence) / 2))
    low = -_upper_end(lost, won, num_examples, z)
    return Estimate((won - lost) / num_examples, low, _upper_end(won, lost, num_examples, z))


def student(differences: Floats, confidence: float) -> Estimate:
    """Return the mean of per-example differences (N,) with Student's interval.

    The interval has no width if N is 1 or all differences are equal.

    Source: Student 1908, https://doi.org/10.1093/biomet/6.1.1.
    """
    mean, num_examples = float(differences.mean()), len(differences)
    if differences.min() == differences.max():
        return Estimate(mean, mean, mean)
    error = differences.std(ddof=1) / np.sqrt(num_examples)
    half = float(-stdtrit(num_examples - 1, (1 - confidence) / 2) * error)
    return Estimate(mean, mean - half, mean + half)


def _upper_end(won: int, lost: int, num_examples: int, z: float) -> float:
    """Return the largest difference that a score test with this quantile does not reject."""
    difference = (won - lost) / num_examples
    if difference == 1:
        return 1.0

    def excess(assumed: float) -> float:
        """Return z standard errors minus the distance from the observed difference."""
        linear = 2 * num_examples * assumed - (won + lost) - (won - lost) * assumed
        inner = linear**2 + 8 * num_examples * lost * assumed * (1 - assumed)
        root = np.sqrt(max(inner, 0.0))
        lost_share = (root - linear) / (4 * num_examples)  # most likely under this difference
        variance = num_examples * (2 * lost_share + assumed * (1 - assumed))
        return float(won - lost - num_examples * assumed + z * np.sqrt(max(variance, 0.0)))

    # The excess is also 0 at the observed difference if the models agree on all examples.
    return float(brentq(excess, difference + 1e-9, 1.0))
