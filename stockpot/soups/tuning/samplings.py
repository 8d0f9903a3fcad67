"""What coefficients a step of a learned soup is taken with, of free numbers that are fitted.

Each sampling draws rows on the simplex for a step, and says how gradients come back from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from stockpot.seeding import seeded_generator

_HOTTEST, _COLDEST = 10.0, 0.1  # temperatures of GDAS, at the first and the last epoch


class Drawn(NamedTuple):
    """The coefficients of a step.

    Attributes:
        alpha: (L, M) in [0, 1]; each row sums to 1.
        pull_back: the gradient for alpha -> that for the free numbers; both (L, M).
    """

    alpha: Tensor
    pull_back: Callable[[Tensor], Tensor]


class Sampling(Protocol):
    """A way to get coefficients from free numbers (L, M), float64; all 0 mean the uniform soup."""

    def draw(self, raw: Tensor, step: int, progress: float) -> Drawn:
        """Return the coefficients of a step.

        Args:
            raw: the free numbers.
            step: its number, which names what is drawn.
            progress: 0 in the first epoch, 1 in the last.
        """
        ...

    def settled(self, raw: Tensor) -> Tensor:
        """Return the coefficients (L, M) that the free numbers stand for when all is done."""
        ...


@dataclass(frozen=True, slots=True)
class Darts:
    """Their softmax, as it is (Liu et al. 2019, https://arxiv.org/abs/1806.09055)."""

    seed: int = 0  # nothing is drawn

    def draw(self, raw: Tensor, step: int, progress: float) -> Drawn:  # noqa: ARG002
        """Return the softmax."""
        alpha = raw.softmax(dim=1)
        return Drawn(alpha, lambda slopes: through_softmax(alpha, slopes))

    def settled(self, raw: Tensor) -> Tensor:
        """Return the softmax."""
        return raw.softmax(dim=1)


@dataclass(frozen=True, slots=True)
class Drnas:
    """A draw from the Dirichlet distribution of concentration elu(raw) + 1.

    Source: Chen et al. 2021, https://arxiv.org/abs/2006.10355, without its pull towards
    concentrations of 1. Gradients go through the draw, its quantiles being held.
    """

    seed: int

    def draw(self, raw: Tensor, step: int, progress: float) -> Drawn:  # noqa: ARG002
        """Draw from the distribution."""
        concentration = functional.elu(raw) + 1
        generator = seeded_generator(self.seed, "drawn coefficients", step)
        # What torch.distributions.Dirichlet calls, which takes no generator.
        alpha = torch._sample_dirichlet(concentration, generator)
        total = concentration.sum(dim=1, keepdim=True).expand_as(concentration)

        def pull_back(slopes: Tensor) -> Tensor:
            along = torch._dirichlet_grad(alpha, concentration, total)
            of_concentration = along * (slopes - (alpha * slopes).sum(dim=1, keepdim=True))
            return of_concentration * raw.clamp(max=0).exp()  # the slope of elu

        return Drawn(alpha, pull_back)

    def settled(self, raw: Tensor) -> Tensor:
        """Return the distribution's mean."""
        return functional.normalize(functional.elu(raw) + 1, p=1, dim=1)


@dataclass(frozen=True, slots=True)
class Gdas:
    """One ingredient a group, drawn with the probabilities of the softmax.

    Gradients are those of a softmax of the same draw (straight-through). Its temperature falls
    from 10 to 0.1, epoch by epoch.

    Source: Dong & Yang 2019, https://arxiv.org/abs/1910.04465.
    """

    seed: int

    def draw(self, raw: Tensor, step: int, progress: float) -> Drawn:
        """Draw one ingredient a group."""
        generator = seeded_generator(self.seed, "drawn coefficients", step)
        uniform = torch.rand(raw.shape, generator=generator, dtype=raw.dtype)
        noisy = raw - (-uniform.clamp(min=1e-30).log()).log()
        temperature = _HOTTEST + (_COLDEST - _HOTTEST) * progress
        soft = (noisy / temperature).softmax(dim=1)
        return Drawn(_one_hot(noisy), lambda slopes: through_softmax(soft, slopes) / temperature)

    def settled(self, raw: Tensor) -> Tensor:
        """Return the likeliest ingredient of each group; of equal ones, all in equal parts."""
        return functional.normalize(
            (raw == raw.amax(dim=1, keepdim=True)).to(raw.dtype), p=1, dim=1
        )


SAMPLINGS: Mapping[str, Callable[[int], Sampling]] = MappingProxyType(
    {"darts": Darts, "drnas": Drnas, "gdas": Gdas}
)
"""The samplings by the name that params.yaml uses, each to be made with a seed."""


def through_softmax(alpha: Tensor, slopes: Tensor) -> Tensor:
    """Return the gradient for the numbers whose softmax is `alpha` (L, M), from that for alpha."""
    return alpha * (slopes - (alpha * slopes).sum(dim=1, keepdim=True))


def _one_hot(numbers: Tensor) -> Tensor:
    return functional.one_hot(numbers.argmax(dim=1), numbers.shape[1]).to(numbers.dtype)
