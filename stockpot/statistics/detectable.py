"""The smallest difference that a test on a set of examples detects with power 0.8."""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import ndtri

POWER = 0.8


def detectable_shares(discordance: float, num_examples: int, level: float) -> float | None:
    """Return the smallest difference of two paired shares that is detected with power 0.8.

    In simulations the exact test has a power of 0.75 to 0.8, since it is conservative, and up to
    0.92 if nearly all changes are for the better, for which the normal approximation is cautious.

    Args:
        discordance: share of examples that exactly one of the models has right; it is raised to
            the difference if that is larger.
        num_examples: number of examples.
        level: of the two-sided test.

    Returns:
        A difference of shares; None if even a difference of 1 would not be detected.

    Source: Connor 1987, https://doi.org/10.2307/2531961, solved for the difference.
    """
    z_level, z_power = -ndtri(level / 2), ndtri(POWER)

    def shortfall(difference: float) -> float:
        changed = max(discordance, difference)
        spread = z_level * math.sqrt(changed) + z_power * math.sqrt(changed - difference**2)
        return float(spread - difference * math.sqrt(num_examples))

    if shortfall(1.0) >= 0:
        return None
    return float(brentq(shortfall, 1e-12, 1.0))


def detectable_mean(deviation: float, num_examples: int, level: float) -> float | None:
    """Return the smallest mean difference that is detected with power 0.8.

    Args:
        deviation: standard deviation of the per-example differences.
        num_examples: number of examples.
        level: of the two-sided test.

    Returns:
        A difference; None if the deviation is 0.

    Source: Cohen 1988, Statistical Power Analysis, chapter 2 (paired), with normal quantiles.
    """
    if deviation == 0:
        return None
    return float((-ndtri(level / 2) + ndtri(POWER)) * deviation / math.sqrt(num_examples))
