"""DELLA's magnitude-based dropping, then a sum (https://arxiv.org/abs/2406.11617)."""

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
    normalized,
    sum_weighted,
)

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.draws import Draws


@method("della_linear")
def della_linear(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    density: float = 0.5,
    epsilon: float = 0.15,
    rescale: Rescale = "inverse",
    scale: float = 1.0,
    normalize: bool = False,
    draws: Sequence[Draws],
) -> Tensor:
    """Add task vectors to the base, of which smaller entries are dropped with higher probability.

    Args:
        tensors: M same-named tensors, one a model; one shape, float32 or float64.
        base: what they were fine-tuned from; same shape and dtype.
        coefficients: M numbers.
        density: mean probability that an entry is kept, in (0, 1).
        epsilon: how far that of a row's smallest and largest entry is from it, in
            [0, min(density, 1 - density)).
        rescale: `inverse` divides each kept entry by its probability; `l1` multiplies them so
            that the sum of magnitudes stays; `none` leaves them.
        scale: finite factor on the sum (the paper's lambda).
        normalize: whether coefficients are divided by their sum.
        draws: random numbers, M.

    Returns:
        The merged tensor; shape and dtype of the inputs. Epsilon 0 is `dare_linear`.

    Raises:
        ValueError: an option is out of range, or coefficients to normalise sum to 0.

    Source: the dropping of Deep et al. 2024 (MagPrune), without the election of signs, as in
    mergekit. Differences from it are those of `della`.
    """
    check_keep_range("della_linear", density, epsilon)
    check_rescale("della_linear", rescale)
    check_scale("della_linear", scale)
    if normalize:
        coefficients = normalized("della_linear", coefficients)
    task_vectors = (tensor - base for tensor in tensors)
    dropped = (
        drop_and_rescale(
            task_vector, keep_probabilities(task_vector, density, epsilon), own, rescale
        )
        for task_vector, own in zip(task_vectors, draws, strict=True)
    )
    return base + scale * sum_weighted(dropped, coefficients)
