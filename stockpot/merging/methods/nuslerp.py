"""Spherical interpolation by coefficients, of weights or of task vectors (mergekit's NuSLERP)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stockpot.merging.method import method
from stockpot.merging.methods.inner_products import gram_of_runs, row_dots
from stockpot.merging.methods.slerp import along_great_circle, circle_factors
from stockpot.merging.methods.task_vectors import normalized

if TYPE_CHECKING:
    from torch import Tensor


@method("nuslerp", num_models=(2, 2), is_elementwise=True, measure=gram_of_runs)
def nuslerp(
    tensors: Sequence[Tensor],
    coefficients: Sequence[float],
    base: Tensor | None = None,
    *,
    measured: Tensor | None = None,
) -> Tensor:
    """Interpolate two models along a great circle; with a base, their task vectors.

    Args:
        tensors: two same-named tensors; one shape, float32 or float64. Each is one vector.
        coefficients: two numbers; the second's share of their sum is how far to go from the
            first model to the second.
        base: the base's tensor, or None to interpolate the weights themselves.
        measured: inner products (2, 2) of the whole task vectors, where these are parts.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: the coefficients sum to 0.

    Source: mergekit's `nuslerp` with `nuslerp_flatten`. It takes t = 0.5 where coefficients sum
    to 0, we refuse. It takes a task vector of zeros as orthogonal to the other, so that a model
    equal to the base would make the merge longer than the line, and does not notice opposite
    vectors in float32; there we interpolate linearly, as `slerp` does.
    """
    _, t = normalized("nuslerp", coefficients)
    first, second = tensors
    if base is None:
        return along_great_circle(first, second, t, measured)
    return base + along_great_circle(first - base, second - base, t, measured)


@method("nuslerp_rows", num_models=(2, 2))
def nuslerp_rows(
    tensors: Sequence[Tensor], coefficients: Sequence[float], base: Tensor | None = None
) -> Tensor:
    """Interpolate each output unit of two models along its own great circle.

    Args:
        tensors: two same-named tensors; one shape, float32 or float64. A vector is what belongs
            to one index of the first axis; tensors of one axis are one vector.
        coefficients: two numbers; the second's share of their sum is how far to go from the
            first model to the second.
        base: the base's tensor, or None to interpolate the weights themselves.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: the coefficients sum to 0.

    Source: mergekit's `nuslerp` without `nuslerp_flatten`, as `nuslerp` here. It takes the last
    axis as vectors, which in a convolution is a row of three numbers of a kernel; we take
    output units, which in a matrix is the same.
    """
    _, t = normalized("nuslerp_rows", coefficients)
    first, second = tensors
    if base is None:
        return _by_rows(first, second, t)
    return base + _by_rows(first - base, second - base, t)


def _by_rows(start: Tensor, end: Tensor, t: float) -> Tensor:
    if start.ndim < 2:
        return along_great_circle(start, end, t)
    rows, ends = start.flatten(1), end.flatten(1)  # (R, C)
    norms = (row_dots(rows, rows) * row_dots(ends, ends)).sqrt()
    of_start, of_end = circle_factors(row_dots(rows, ends) / norms, t)  # (R,)
    merged = rows * of_start.to(rows.dtype)[:, None]
    merged += ends * of_end.to(rows.dtype)[:, None]
    return merged.reshape(start.shape)
