"""DELLA-Merging: drop, elect, fuse (Deep et al. 2024, https://arxiv.org/abs/2406.11617)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stockpot.merging.method import method
from stockpot.merging.methods.task_vectors import (
    Rescale,
    check_keep_range,
    check_rescale,
    check_scale,
    drop_and_rescale,
    keep_probabilities,
    merge_agreeing,
)

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.draws import Draws


@method("della")
def della(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: float = 0.5,
    epsilon: float = 0.15,
    rescale: Rescale = "inverse",
    scale: float = 1.0,
    normalize: bool = True,
    draws: Sequence[Draws],
) -> Tensor:
    """Drop smaller entries with higher probability, and average those that agree in sign.

    Args:
        tensors: M same-named tensors, one a model; one shape, float32 or float64.
        base: what they were fine-tuned from; same shape and dtype.
        coefficients: M numbers, applied after dropping; equal ones give the paper's method.
        density: mean probability that an entry is kept, in (0, 1).
        epsilon: how far that of a row's smallest and largest entry is from it, in
            [0, min(density, 1 - density)).
        rescale: `inverse` divides each kept entry by its probability; `l1` multiplies them so
            that the sum of magnitudes stays; `none` leaves them.
        scale: finite factor on the merged task vector (the paper's lambda).
        normalize: whether agreeing entries are averaged (the paper) or summed.
        draws: random numbers, M.

    Returns:
        The merged tensor; shape and dtype of the inputs. The base's entry stays where all are
        dropped, and where the weighted sum is exactly 0.

    Raises:
        ValueError: an option is out of range.

    Source: the paper's drop, elect and fuse. A row is the last dimension, as in mergekit, which
    rescales by `l1` only and cannot merge rows of one entry; we keep those with probability
    `density`. Ties of signs and averages are as in `ties`.
    """
    check_keep_range("della", density, epsilon)
    check_rescale("della", rescale)
    check_scale("della", scale)
    task_vectors = (tensor - base for tensor in tensors)
    dropped = (
        drop_and_rescale(
            task_vector, keep_probabilities(task_vector, density, epsilon), own, rescale
        )
        for task_vector, own in zip(task_vectors, draws, strict=True)
    )
    return base + scale * merge_agreeing(dropped, coefficients, normalize=normalize)
