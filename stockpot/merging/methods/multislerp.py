"""Spherical mean of any number of models (mergekit's Multi-SLERP)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.directions import Directions, measure_directions
from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.task_vectors import normalized
from stockpot.merging.runs import Runs


@method("multislerp", num_models=(2, None), is_elementwise=True, measure=measure_directions)
def multislerp(
    tensors: Sequence[Tensor],
    coefficients: Sequence[float],
    base: Tensor | None = None,
    *,
    measured: Tensor | None = None,
) -> Tensor:
    """Average the directions, and separately the lengths.

    A tensor of one entry has no direction: it is averaged, and so are two opposite vectors.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        coefficients: M numbers, in the order of `tensors`; their sum is not 0.
        base: the base's tensor, or None to merge the weights instead of task vectors.
        measured: inner products (M, M) of the whole vectors, where the
            tensors are parts of larger ones.

    Returns:
        The merged tensor; shape and dtype of the inputs. If no model differs from the base, the
        base bit for bit.

    Raises:
        ValueError: the coefficients sum to 0, or the directions of more than two models cancel.

    Source: mergekit's `multislerp`. It projects the directions onto the tangent space at their mean
    and moves along the mean of the projections, which is 0 except for rounding; here this step is
    left out. It fails on tensors that no model changed, and its `eps` shortens small vectors;
    neither happens here.
    """
    parts = normalized("multislerp", coefficients)
    if base is None:
        return _mean(tensors, parts, measured)
    return base + _mean([tensor - base for tensor in tensors], parts, measured)


def _mean(vectors: Sequence[Tensor], parts: Sequence[float], products: Tensor | None) -> Tensor:
    products = measure_directions(Runs.of(vectors)) if products is None else products
    if products is None or not products.any():
        return linear(vectors, parts)
    directions = Directions.of(products)
    factors = directions.lengths.new_tensor(parts)
    if directions.cancel(factors):
        if len(vectors) > 2:
            raise ValueError("multislerp: directions of the models must not cancel out, got 0")
        return linear(vectors, parts)
    mean_length = factors @ directions.lengths
    factors = factors * mean_length / directions.length_of_sum(factors)
    return directions.sum_of_units(vectors, factors)
