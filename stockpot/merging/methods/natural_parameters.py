"""Products of posteriors by their natural parameters, which add up.

A model's weights are the mean of a distribution of an exponential family. The product of several
has the sum of their natural parameters, and a power of one has a multiple of them: a Gaussian's
are its precision times its mean, and its precision; a Bernoulli variable's is its field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from torch import Tensor

Natural: TypeAlias = tuple[Tensor, ...]
"""The natural parameters of independent variables of one family; one shape and dtype."""


def gaussian(mean: Tensor, precision: Tensor) -> Natural:
    """Return the natural parameters of Gaussians; of a power, the precision is multiplied by it."""
    return precision * mean, precision


def gaussian_mean(natural: Natural, otherwise: Tensor) -> Tensor:
    """Return the means of Gaussians, and `otherwise` where the precision is 0."""
    weighted, precision = natural
    return (weighted / precision).where(precision > 0, otherwise)


def bernoulli(field: Tensor, power: float = 1.0) -> Natural:
    """Return the natural parameters of binary variables of +1 and -1 with this field.

    The mean of such a variable is tanh(field).

    Args:
        field: half the log-odds of +1.
        power: to which the distribution is raised.
    """
    return (field * power,)


def product(factors: Sequence[Natural]) -> Natural:
    """Return the natural parameters of a normalised product, summed in the order given."""
    total = tuple(parameter.clone() for parameter in factors[0])
    for factor in factors[1:]:
        for place, parameter in enumerate(factor):
            total[place].add_(parameter)
    return total
