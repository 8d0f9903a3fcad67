"""Tensors as directions and lengths.

A mean direction is a linear combination of the models, so it is computed from their inner products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from stockpot.merging.methods.inner_products import gram_of_runs

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.runs import Runs

_ZERO = 1e-30  # relative to the greatest length: shorter vectors have no direction
_CANCELLED = 1e-6  # float32 inputs have a relative precision of about 1e-7


def measure_directions(runs: Runs, *_: object) -> Tensor | None:
    """Return the inner products (M, M) of the vectors; None for vectors of one entry."""
    return gram_of_runs(runs) if runs.size > 1 else None


def lengths_and_cosines(products: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lengths of M tensors and the cosines of the angles between them.

    Args:
        products: inner products (M, M).

    Returns:
        The lengths (M,) and the cosines (M, M), float64; cosines with a zero vector are 0.
    """
    lengths = products.diagonal().sqrt()
    divisors = lengths.where(lengths > _ZERO * lengths.max(), torch.inf)
    return lengths, products / divisors / divisors[:, None]


def length_of_sum(factors: Tensor, cosines: Tensor) -> Tensor:
    """Return the length of the sum of unit vectors times factors (M,)."""
    return (factors @ cosines @ factors).clamp(min=0).sqrt()


def cancels(factors: Tensor, cosines: Tensor) -> bool:
    """Whether the unit vectors times factors (M,) sum to rounding noise."""
    return bool(length_of_sum(factors, cosines) < _CANCELLED * factors.abs().sum())


def sum_of_units(vectors: Sequence[Tensor], lengths: Tensor, factors: Tensor) -> Tensor:
    """Sum the vectors, each divided by its length and times its factor; skip zero vectors."""
    has_direction = lengths > _ZERO * lengths.max()
    merged = torch.zeros_like(vectors[0])
    for vector, factor, used in zip(vectors, factors / lengths, has_direction, strict=True):
        if used:
            merged += vector * factor
    return merged
