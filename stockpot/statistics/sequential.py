"""A sequential test: has a mean over a finite set fallen, by the examples seen so far?"""

from __future__ import annotations

import math

import numpy as np

from stockpot.statistics.values import Floats

_BETS = np.array([0.9, 0.5, 0.25, 0.12, 0.06, 0.03, 0.015])
"""Shares of the largest bet. They are mixed, since the best one depends on the unknown mean."""


class FallTest:
    """Tests that the sum of N differences is at least 0, while they are drawn in random order.

    It may be read after each example: if the sum is at least 0, the probability that it ever
    rejects is at most the risk.

    Source: betting on draws without replacement, Waudby-Smith and Ramdas 2024 (JRSS B 86:1,
    https://arxiv.org/abs/2010.09686), section 5. With a sum of 0, the differences that are left
    have a known mean; a bet that the next one is lower multiplies the wealth by
    1 - bet * (difference - mean), whose expectation is at most 1 if the sum is at least 0. A wealth
    of 1 / risk has at most the probability `risk` (Ville's inequality).
    """

    def __init__(self, size: int, *, width: float, risk: float) -> None:
        """Start before the first example.

        Args:
            size: N.
            width: no difference is further from 0.
            risk: probability of rejecting wrongly, in (0, 1).
        """
        self._size, self._width, self._limit = size, width, -math.log(risk)
        self._seen, self._sum = 0, 0.0
        self._log_wealth = np.zeros(len(_BETS))

    def rejects(self, differences: Floats) -> bool:
        """Return whether the test rejects after these further differences, (n,), or before."""
        scaled = differences / self._width
        sums = self._sum + np.cumsum(scaled)
        before = np.concatenate([[self._sum], sums[:-1]])
        left = self._size - self._seen - np.arange(len(scaled))
        means = (-before / left).clip(max=1 - 1e-9)  # beyond 1, a sum of 0 is out of reach
        bets = _BETS / (1 - means)[:, None]  # (n, B); no wealth falls below 0
        gains = np.log1p(-bets * (scaled - means)[:, None])
        wealth = self._log_wealth + np.cumsum(gains, axis=0)
        self._seen, self._sum, self._log_wealth = self._seen + len(scaled), sums[-1], wealth[-1]
        mixed = np.logaddexp.reduce(wealth, axis=1) - math.log(len(_BETS))
        return bool(mixed.max() >= self._limit)
