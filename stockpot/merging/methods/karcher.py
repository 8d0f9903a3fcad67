"""Riemannian mean on the sphere (Karcher 1977, https://doi.org/10.1002/cpa.3160300502)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.directions import Directions, measure_directions
from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.shares import positive_shares
from stockpot.merging.runs import Runs

_OPPOSITE = -0.9995  # below this cosine between two models, the shortest path is not unique
_SMALLEST_SINE = 1e-6  # below it, the direction from the mean to its opposite is undefined


@method("karcher", num_models=(2, None), is_elementwise=True, measure=measure_directions)
def karcher(
    tensors: Sequence[Tensor],
    coefficients: Sequence[float],
    *,
    max_iter: int = 10,
    tol: float = 1e-5,
    measured: Tensor | None = None,
) -> Tensor:
    """Find the direction with the least mean squared angle to the models; average their lengths.

    A tensor of one entry has no direction: it is averaged, and so are two opposite vectors.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        coefficients: M numbers of at least 0, in the order of `tensors`, not all 0.
        max_iter: maximum number of steps, at least 1.
        tol: step length, in radians, below which the search stops, above 0.
        measured: inner products (M, M) of the whole tensors, where the
            tensors are parts of larger ones.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: an option or a coefficient is out of its range, or the directions of more
            than two models cancel.

    Source: Karcher 1977, by gradient descent with step size 1. mergekit has no
    coefficients and computes in the models' precision. Here the inner products of the models are
    computed once, in float64, and the search is over the factors of their sum: two passes over
    the models, independent of the number of steps. Only zero vectors are left out, not all that
    are shorter than `tol`, since small biases have directions too.
    """
    if not max_iter >= 1:
        raise ValueError(f"karcher: max_iter must be at least 1, got {max_iter}")
    if not tol > 0:
        raise ValueError(f"karcher: tol must be above 0, got {tol}")
    parts = positive_shares("karcher", coefficients)
    products = measure_directions(Runs.of(tensors)) if measured is None else measured
    if products is None:
        return linear(tensors, parts)
    directions = Directions.of(products)
    has_direction = directions.cosines.diagonal() > 0
    weights = directions.lengths.new_tensor(parts) * has_direction
    are_opposite = len(tensors) == 2 and directions.cosines[0, 1] < _OPPOSITE
    if are_opposite or not weights.any():
        return linear(tensors, parts)
    if directions.cancel(weights):
        raise ValueError("karcher: directions of the models must not cancel out, got 0")
    mean = _mean_direction(weights / weights.sum(), directions, max_iter, tol)
    return directions.sum_of_units(tensors, mean * (directions.lengths @ weights))


def _mean_direction(weights: Tensor, units: Directions, max_iter: int, tol: float) -> Tensor:
    """Return the factors (M,) of the unit vectors whose sum is the mean direction."""
    mean = weights / units.length_of_sum(weights)
    for _ in range(max_iter):
        cosine = (units.cosines @ mean).clamp(-1, 1)
        angle = cosine.arccos()
        pulls = weights * angle / angle.sin().clamp(min=_SMALLEST_SINE)
        pulls = pulls.where((angle >= tol) & (angle.sin() >= _SMALLEST_SINE), 0)
        step = pulls - (pulls @ cosine) * mean
        length = units.length_of_sum(step)
        if length < tol:
            break
        mean = length.cos() * mean + length.sin() / length * step
        mean = mean / units.length_of_sum(mean)
    return mean
