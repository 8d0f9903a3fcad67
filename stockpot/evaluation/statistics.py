"""Bootstrap intervals over examples; the same resamples for every model, so pairs are kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over examples with its percentile interval; fractions."""

    mean: float
    low: float
    high: float


class Bootstrap:
    """Resamples of one set of examples.

    A resample is kept as how often it draws each example, so the resampled means of many models
    are one matrix product. As all models see the same resamples, the interval of a difference is
    the paired bootstrap's.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 6 and 13
    (percentile interval).
    """

    def __init__(self, num_examples: int, resamples: int, confidence: float, seed: int) -> None:
        """Draw the resamples.

        Args:
            num_examples: size of the set.
            resamples: how many.
            confidence: of the intervals, in (0, 1).
            seed: of the draw.
        """
        generator = np.random.default_rng([seed, num_examples])
        even = np.full(num_examples, 1 / num_examples)
        self._shares = generator.multinomial(num_examples, even, size=resamples) / num_examples
        tail = (1 - confidence) / 2
        self._percentiles = (100 * tail, 100 * (1 - tail))

    def estimate(self, values: Floats) -> Estimate:
        """Return the mean of per-example values (N,) with its interval."""
        low, high = np.percentile(self._shares @ values, self._percentiles)
        return Estimate(float(values.mean()), float(low), float(high))

    def difference(self, values: Floats, reference: Floats) -> Estimate:
        """Return the mean of `values - reference` (N,), example by example, with its interval."""
        return self.estimate(values - reference)
