"""Tensors as directions and lengths.

A mean direction is a linear combination of the models, so it is computed from their inner products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stockpot.merging.measurements import depends_on
from stockpot.merging.methods.inner_products import gram_of_runs
from stockpot.merging.runs import Runs

_ZERO = 1e-30  # relative to the greatest length: shorter vectors have no direction
_CANCELLED = 1e-6  # float32 inputs have a relative precision of about 1e-7


@depends_on()
def measure_directions(runs: Runs, *_: object) -> Tensor | None:
    """Return the inner products (M, M) of the vectors; None for vectors of one entry."""
    return gram_of_runs(runs) if runs.size > 1 else None


@dataclass(frozen=True, slots=True)
class Directions:
    """The lengths of M vectors and the angles between them.

    Attributes:
        lengths: (M,), float64.
        cosines: (M, M), float64; those with a zero vector are 0.
    """

    lengths: Tensor
    cosines: Tensor

    @classmethod
    def of(cls, products: Tensor) -> Directions:
        """Return those of the vectors with these inner products (M, M)."""
        lengths = products.diagonal().sqrt()
        divisors = lengths.where(lengths > _ZERO * lengths.max(), torch.inf)
        return cls(lengths, products / divisors / divisors[:, None])

    def length_of_sum(self, factors: Tensor) -> Tensor:
        """Return the length of the sum of unit vectors times factors (M,)."""
        return (factors @ self.cosines @ factors).clamp(min=0).sqrt()

    def cancel(self, factors: Tensor) -> bool:
        """Whether the unit vectors times factors (M,) sum to rounding noise."""
        return bool(self.length_of_sum(factors) < _CANCELLED * factors.abs().sum())

    def sum_of_units(self, vectors: Sequence[Tensor], factors: Tensor) -> Tensor:
        """Sum the vectors, each divided by its length and times its factor; skip zero vectors."""
        has_direction = self.lengths > _ZERO * self.lengths.max()
        merged = torch.zeros_like(vectors[0])
        for vector, factor, used in zip(
            vectors, factors / self.lengths, has_direction, strict=True
        ):
            if used:
                merged += vector * factor
        return merged
