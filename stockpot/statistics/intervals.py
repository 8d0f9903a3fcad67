"""The intervals that are reported, each by the method that covers as often as it says."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit

from stockpot.statistics.bootstrap import Bootstrap
from stockpot.statistics.estimates import Estimate
from stockpot.statistics.values import Floats, is_right_or_wrong


class Intervals:
    """Intervals of means over examples; on one set of examples all models see the same resamples.

    Values that are right or wrong get score intervals, Wilson's and Tango's for a difference. The
    bootstrap is too sure where nearly all examples are right, or two models differ on few, and
    certain where all are or none. The mean of other values gets the BCa bootstrap, which allows
    for their skew; their difference Student's interval: the skew of differences is mostly
    accident, and following it covered 78 % of the time in simulations where this covered 98 %.
    """

    def __init__(self, resamples: int, confidence: float, seed: int) -> None:
        """Settle how intervals are made; nothing is drawn before it is needed.

        Args:
            resamples: of the bootstrap.
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
        return self._bootstrap(len(values)).bca(values)

    def difference(self, values: Floats, reference: Floats) -> Estimate:
        """Return the mean of `values - reference` (N,), example by example, with its interval."""
        if is_right_or_wrong(values) and is_right_or_wrong(reference):
            won, lost = int((values > reference).sum()), int((values < reference).sum())
            return tango(won, lost, len(values), self.confidence)
        return student(values - reference, self.confidence)

    def _bootstrap(self, num_examples: int) -> Bootstrap:
        if num_examples not in self._by_size:
            made = Bootstrap(num_examples, self.resamples, self.confidence, self.seed)
            self._by_size[num_examples] = made
        return self._by_size[num_examples]


def wilson(num_right: int, num_examples: int, confidence: float) -> Estimate:
    """Return the share of right examples with its score interval.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    share, z = num_right / num_examples, _quantile(confidence)
    spread = z**2 / num_examples
    centre = (share + spread / 2) / (1 + spread)
    half = np.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    # The ends at 0 and 1 are exact but for rounding, which must not put the share outside.
    return Estimate(share, min(float(centre - half), share), max(float(centre + half), share))


def tango(won: int, lost: int, num_examples: int, confidence: float) -> Estimate:
    """Return the difference of two paired shares with its score interval.

    Args:
        won: examples that the model alone has right.
        lost: examples that the reference alone has right.
        num_examples: all examples.
        confidence: in (0, 1).

    Source: Tango 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B:
    the differences that the score test does not reject.
    """
    z = _quantile(confidence)
    low = -_upper_end(lost, won, num_examples, z)
    return Estimate((won - lost) / num_examples, low, _upper_end(won, lost, num_examples, z))


def student(differences: Floats, confidence: float) -> Estimate:
    """Return the mean of per-example differences (N,) with Student's interval.

    One difference, or all equal, give an interval without width.

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
        """Return z standard errors less the distance from what was seen; 0 at the end."""
        linear = 2 * num_examples * assumed - (won + lost) - (won - lost) * assumed
        inner = linear**2 + 8 * num_examples * lost * assumed * (1 - assumed)
        root = np.sqrt(max(inner, 0.0))
        lost_share = (root - linear) / (4 * num_examples)  # most likely under this difference
        variance = num_examples * (2 * lost_share + assumed * (1 - assumed))
        return float(won - lost - num_examples * assumed + z * np.sqrt(max(variance, 0.0)))

    # At the difference seen, the excess is 0 too where no example tells the models apart.
    return float(brentq(excess, difference + 1e-9, 1.0))


def _quantile(confidence: float) -> float:
    return float(-ndtri((1 - confidence) / 2))
