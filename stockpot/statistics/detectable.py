"""The smallest difference that a set of examples can be expected to show."""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import ndtri

POWER = 0.8


def detectable_shares(discordance: float, num_examples: int, level: float) -> float | None:
    """Return the smallest difference of two paired shares that is shown with power 0.8.

    In simulations the exact test has a power of 0.75 to 0.8, as it keeps below its level, and up
    to 0.92 where nearly all changes are for the better, on which the normal approximation is
    cautious.

    Args:
        discordance: the share of examples that the two models do not both have right or wrong; a
            larger difference than it is taken to raise it.
        num_examples: how many examples.
        level: of the two-sided test.

    Returns:
        A difference of shares; None where even the largest would not be shown.

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
    """Return the smallest mean difference that is shown with power 0.8.

    Args:
        deviation: standard deviation of the per-example differences.
        num_examples: how many examples.
        level: of the two-sided test.

    Returns:
        A difference; None where no example differs, which says nothing of how others would.

    Source: Cohen 1988, Statistical Power Analysis, chapter 2 (paired), with normal quantiles.
    """
    if deviation == 0:
        return None
    return float((-ndtri(level / 2) + ndtri(POWER)) * deviation / math.sqrt(num_examples))
