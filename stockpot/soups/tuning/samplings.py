"""Samplings of a learned soup: from logits to the coefficients of a step, and gradients back.

The logits are fitted; a sampling maps them to rows on the simplex, at random or not.
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

_HOTTEST, _COLDEST = 10.0, 0.1  # temperatures of GDAS in the first and the last epoch


class Drawn(NamedTuple):
    """The coefficients of a step.

    Attributes:
        alpha: (L, M) in [0, 1]; each row sums to 1.
        pull_back: gradient of alpha -> gradient of the logits; both (L, M).
    """

    alpha: Tensor
    pull_back: Callable[[Tensor], Tensor]


class Sampling(Protocol):
    """A map from logits (L, M), float64, to coefficients; logits of 0 give the uniform soup."""

    def draw(self, raw: Tensor, step: int, progress: float) -> Drawn:
        """Return the coefficients of a step.

        Args:
            raw: the logits.
            step: number of the step, which seeds random numbers.
            progress: from 0 in the first epoch to 1 in the last.
        """
        ...

    def settled(self, raw: Tensor) -> Tensor:
        """Return the coefficients (L, M) after the fit."""
        ...


@dataclass(frozen=True, slots=True)
class Darts:
    """The softmax of the logits (Liu et al. 2019, https://arxiv.org/abs/1806.09055)."""

    seed: int = 0  # unused

    def draw(self, raw: Tensor, step: int, progress: float) -> Drawn:  # noqa: ARG002
        """Return the softmax."""
        alpha = raw.softmax(dim=1)
        return Drawn(alpha, lambda slopes: through_softmax(alpha, slopes))

    def settled(self, raw: Tensor) -> Tensor:
        """Return the softmax."""
        return raw.softmax(dim=1)


@dataclass(frozen=True, slots=True)
class Drnas:
    """A sample of the Dirichlet distribution with concentration elu(raw) + 1.

    Source: Chen et al. 2021, https://arxiv.org/abs/2006.10355, without its regularization towards
    concentrations of 1. Gradients are those of the sample at fixed quantiles.
    """

    seed: int

    def draw(self, raw: Tensor, step: int, progress: float) -> Drawn:  # noqa: ARG002
        """Sample from the distribution."""
        concentration = functional.elu(raw) + 1
        generator = seeded_generator(self.seed, "drawn coefficients", step)
        # The function behind torch.distributions.Dirichlet, which has no argument `generator`.
        alpha = torch._sample_dirichlet(concentration, generator)
        total = concentration.sum(dim=1, keepdim=True).expand_as(concentration)

        def pull_back(slopes: Tensor) -> Tensor:
            along = torch._dirichlet_grad(alpha, concentration, total)
            of_concentration = along * (slopes - (alpha * slopes).sum(dim=1, keepdim=True))
            return of_concentration * raw.clamp(max=0).exp()  # the derivative of elu

        return Drawn(alpha, pull_back)

    def settled(self, raw: Tensor) -> Tensor:
        """Return the distribution's mean."""
        return functional.normalize(functional.elu(raw) + 1, p=1, dim=1)


@dataclass(frozen=True, slots=True)
class Gdas:
    """One ingredient per group, sampled with the probabilities of the softmax.

    Gradients are those of a softmax of the same sample (straight-through), whose temperature
    decreases from 10 to 0.1 over the epochs.

    Source: Dong & Yang 2019, https://arxiv.org/abs/1910.04465.
    """

    seed: int

    def draw(self, raw: Tensor, step: int, progress: float) -> Drawn:
        """Sample one ingredient per group."""
        generator = seeded_generator(self.seed, "drawn coefficients", step)
        uniform = torch.rand(raw.shape, generator=generator, dtype=raw.dtype)
        noisy = raw - (-uniform.clamp(min=1e-30).log()).log()
        temperature = _HOTTEST + (_COLDEST - _HOTTEST) * progress
        soft = (noisy / temperature).softmax(dim=1)
        alpha = functional.one_hot(noisy.argmax(dim=1), noisy.shape[1]).to(noisy.dtype)
        return Drawn(alpha, lambda slopes: through_softmax(soft, slopes) / temperature)

    def settled(self, raw: Tensor) -> Tensor:
        """Return the most probable ingredient of each group; equal shares for equal ones."""
        return functional.normalize(
            (raw == raw.amax(dim=1, keepdim=True)).to(raw.dtype), p=1, dim=1
        )


@dataclass(frozen=True, slots=True)
class MaxW:
    """Max-W of another sampling: its coefficients a_i become 1 - max(a) + a_i, scaled to sum to 1.

    The leader of each row, however far ahead, then draws no more weight to itself than the others
    lose. The maximum is taken as constant. Source: Hundt et al. 2019, sharpDARTS
    (https://arxiv.org/abs/1903.09900); the scaling is an addition, since a merge needs an average.
    """

    inner: Sampling

    def draw(self, raw: Tensor, step: int, progress: float) -> Drawn:
        """Sample, and raise all coefficients but the largest."""
        drawn = self.inner.draw(raw, step, progress)
        raised, total = _raised(drawn.alpha)
        alpha = raised / total

        def pull_back(slopes: Tensor) -> Tensor:
            return drawn.pull_back((slopes - (alpha * slopes).sum(dim=1, keepdim=True)) / total)

        return Drawn(alpha, pull_back)

    def settled(self, raw: Tensor) -> Tensor:
        """Raise the coefficients after the fit."""
        raised, total = _raised(self.inner.settled(raw))
        return raised / total


def _raised(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1 - max + alpha of each row (L, M), and its sum (L, 1)."""
    raised = 1 - alpha.amax(dim=1, keepdim=True) + alpha
    return raised, raised.sum(dim=1, keepdim=True)


SAMPLINGS: Mapping[str, Callable[[int], Sampling]] = MappingProxyType(
    {"darts": Darts, "drnas": Drnas, "gdas": Gdas}
)
"""Name in params.yaml -> seed -> sampling."""


def through_softmax(alpha: Tensor, slopes: Tensor) -> Tensor:
    """Return the gradient of logits from that of their softmax `alpha` (L, M)."""
    return alpha * (slopes - (alpha * slopes).sum(dim=1, keepdim=True))
