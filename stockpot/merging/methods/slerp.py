"""Spherical interpolation of two models (Shoemake 1985, https://doi.org/10.1145/325165.325242)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.inner_products import gram, gram_of_runs
from stockpot.merging.methods.task_vectors import check_choice
from stockpot.merging.search_ranges import Share
from stockpot.merging.whole_model import Scope

_LARGEST_COSINE = 0.9995  # above it, the sine is too small to divide by


@method("slerp", num_models=(2, 2), is_symmetric=False, is_elementwise=True, measure=gram_of_runs)
def slerp(
    tensors: Sequence[Tensor],
    *,
    t: Share,
    scope: Scope = "tensor",
    measured: Tensor | None = None,
) -> Tensor:
    """Interpolate from the first model to the second along a great circle.

    (Nearly) parallel or opposite vectors are interpolated linearly, and so are pairs with a zero
    vector.

    Args:
        tensors: two same-named tensors; one shape, float32 or float64.
        t: position in [0, 1]; 0 returns the first model, 1 the second, bit for bit.
        scope: the vectors to interpolate: each `tensor`, or the whole `model`, with one angle.
        measured: inner products (2, 2) of the whole vectors, where the
            tensors are parts of larger ones.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: `t` is outside [0, 1], or the scope is unknown.

    Source: Shoemake 1985, on vectors of any length. mergekit treats a zero vector
    as orthogonal to all others, and divides by the sine of (nearly) opposite vectors, which is
    rounding noise; here both are interpolated linearly. Inner products are in float64.
    """
    if not 0 <= t <= 1:
        raise ValueError(f"slerp: t must be in [0, 1], got {t}")
    check_choice("slerp", "scope", scope, Scope)
    return along_great_circle(tensors[0], tensors[1], t, measured)


def along_great_circle(
    start: Tensor, end: Tensor, t: float, products: Tensor | None = None
) -> Tensor:
    """Interpolate between two tensors, each taken as one vector.

    Args:
        start: the result at t = 0, of any shape.
        end: the result at t = 1; same shape and dtype.
        t: the position.
        products: inner products (2, 2) of the two; None to compute them.
    """
    products = gram([start, end]) if products is None else products
    cosine = products[0, 1] / (products[0, 0] * products[1, 1]).sqrt()
    of_start, of_end = circle_factors(cosine, t)
    return start * float(of_start) + end * float(of_end)


def circle_factors(cosine: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Return the factors of start and end; those of linear interpolation where no circle exists.

    Args:
        cosine: of the angle between start and end, of any shape, float64; NaN for zero vectors.
        t: the position.
    """
    on_line = ~(cosine.abs() <= _LARGEST_COSINE)  # also for NaN
    angle = torch.arccos(cosine.where(~on_line, 0))
    of_start = (((1 - t) * angle).sin() / angle.sin()).where(~on_line, 1 - t)
    of_end = ((t * angle).sin() / angle.sin()).where(~on_line, t)
    return of_start, of_end
