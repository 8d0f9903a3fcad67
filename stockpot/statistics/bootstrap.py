"""Bootstrap intervals over examples, paired: all models see the same resamples."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from stockpot.statistics.estimates import Estimate
from stockpot.statistics.values import Floats, snapped


class Bootstrap:
    """Resamples of one set of examples.

    A resample is stored as the count of each example, so that resampled means are one matrix
    product. As all models see the same resamples, the interval of per-example differences of two
    models is that of the paired bootstrap.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap.
    """

    def __init__(self, num_examples: int, resamples: int, confidence: float, seed: int) -> None:
        """Draw the resamples.

        Args:
            num_examples: size of the set.
            resamples: number of resamples.
            confidence: of the intervals, in (0, 1).
            seed: of the draws.
        """
        generator = np.random.default_rng([seed, num_examples])
        even = np.full(num_examples, 1 / num_examples)
        self._shares = generator.multinomial(num_examples, even, size=resamples) / num_examples
        tail = (1 - confidence) / 2
        self._tails = np.array([tail, 1 - tail])

    def means(self, values: Floats) -> Floats:
        """Return the mean of per-example values, (N,) or (N, K), in each resample: (R,), (R, K)."""
        return snapped(self._shares @ values, np.abs(values).max())

    def bca(self, values: Floats) -> Estimate:
        """Return the mean of values (N,) with its bias-corrected and accelerated interval.

        The interval has no width if all values are equal.

        Source: section 14.3, equations 14.9 to 14.15; the acceleration (14.15) of a mean needs no
        jackknife, since leaving out an example changes the mean in proportion to its deviation.
        """
        mean = float(values.mean())
        deviations = values - mean
        if values.min() == values.max():
            return Estimate(mean, mean, mean)
        means, centre = self.means(values), snapped(values.mean(), np.abs(values).max())
        acceleration = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)
        below = ((means < centre).mean() + (means <= centre).mean()) / 2
        # All resamples may lie on one side; the bias is then limited by their number.
        bias = ndtri(np.clip(below, 0.5 / len(means), 1 - 0.5 / len(means)))
        shifted = bias + ndtri(self._tails)
        low, high = np.quantile(means, ndtr(bias + shifted / (1 - acceleration * shifted)))
        return Estimate(mean, float(low), float(high))
