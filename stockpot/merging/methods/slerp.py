"""Spherical interpolation of two models (Shoemake 1985, https://doi.org/10.1145/325165.325242)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from stockpot.merging.method import method
from stockpot.merging.methods.inner_products import gram, gram_of_runs
from stockpot.merging.whole_model import Scope, check_scope

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST_COSINE = 0.9995  # nearer to a line the sine is too small to divide by


@method("slerp", num_models=(2, 2), is_symmetric=False, is_elementwise=True, measure=gram_of_runs)
def slerp(
    tensors: Sequence[Tensor],
    *,
    t: float,
    scope: Scope = "tensor",
    measured: Tensor | None = None,
) -> Tensor:
    """Go the fraction t of the way from the first model to the second, along a great circle.

    Vectors that are (nearly) on one line, in the same or in opposite directions, are
    interpolated linearly; so are pairs with a vector of zeros.

    Args:
        tensors: two same-named tensors; one shape, float32 or float64.
        t: how far to go, in [0, 1]; 0 gives the first, 1 the second, bit for bit.
        scope: what is a vector: each `tensor`, or the whole `model`, which has one angle.
        measured: inner products (2, 2) of the whole vectors, where the
            tensors are parts of larger ones.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: `t` is outside [0, 1], or there is no such scope.

    Source: Shoemake 1985, on vectors of any length. mergekit takes a vector of
    zeros as orthogonal to all others, and divides by the sine of (nearly) opposite vectors,
    which is rounding noise; we interpolate linearly there. Inner products are in float64.
    """
    if not 0 <= t <= 1:
        raise ValueError(f"slerp: t must be in [0, 1], got {t}")
    check_scope("slerp", scope)
    return along_great_circle(tensors[0], tensors[1], t, measured)


def along_great_circle(
    start: Tensor, end: Tensor, t: float, products: Tensor | None = None
) -> Tensor:
    """Interpolate between two tensors, each taken as one vector.

    Args:
        start: where to start, of any shape.
        end: where to go; same shape and dtype.
        t: how far.
        products: inner products (2, 2) of the two; None if they are not known.
    """
    products = gram([start, end]) if products is None else products
    cosine = products[0, 1] / (products[0, 0] * products[1, 1]).sqrt()
    of_start, of_end = circle_factors(cosine, t)
    return start * float(of_start) + end * float(of_end)


def circle_factors(cosine: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Return what start and end are multiplied by: those of a line where there is no circle.

    Args:
        cosine: of the angle between start and end, one or many, float64; NaN for zero vectors.
        t: how far to go from start to end.
    """
    on_line = ~(cosine.abs() <= _LARGEST_COSINE)  # also where it is NaN
    angle = torch.arccos(cosine.where(~on_line, 0))
    of_start = (((1 - t) * angle).sin() / angle.sin()).where(~on_line, 1 - t)
    of_end = ((t * angle).sin() / angle.sin()).where(~on_line, t)
    return of_start, of_end
