"""Spherical interpolation by coefficients, of weights or of task vectors (mergekit's NuSLERP)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.inner_products import gram_of_runs, row_dots
from stockpot.merging.methods.slerp import along_great_circle, circle_factors
from stockpot.merging.methods.task_vectors import normalized


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
        coefficients: two numbers; the second one's fraction of their sum is the position between
            the models, 0 at the first and 1 at the second.
        base: the base's tensor, or None to interpolate the weights themselves.
        measured: inner products (2, 2) of the whole task vectors, where the
            tensors are parts of larger ones.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: the coefficients sum to 0.

    Source: mergekit's `nuslerp` with `nuslerp_flatten`. It takes t = 0.5 if the coefficients sum
    to 0, which is an error here. It treats a zero task vector as orthogonal to the other, so that
    the merge with a model equal to the base is longer than linear interpolation, and does not
    detect opposite vectors in float32; here both are interpolated linearly, as in `slerp`.
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
        tensors: two same-named tensors; one shape, float32 or float64. A vector is one
            index of the first axis; a tensor of one axis is one vector.
        coefficients: two numbers; the second one's fraction of their sum is the position between
            the models, 0 at the first and 1 at the second.
        base: the base's tensor, or None to interpolate the weights themselves.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: the coefficients sum to 0.

    Source: mergekit's `nuslerp` without `nuslerp_flatten`, as `nuslerp` here. Its vectors are
    along the last axis, which in a convolution is one row of a kernel; here they are the weights
    of output units, which is the same for a matrix.
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
