"""Fisher-weighted averaging (Matena & Raffel 2022, https://arxiv.org/abs/2111.09832)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.natural_parameters import gaussian, gaussian_mean, product
from stockpot.merging.methods.shares import positive_shares


class Fisher(NamedTuple):
    """Diagonal Fisher information about one tensor of a model.

    Attributes:
        diagonal: non-negative, in the tensor's shape.
        norm: norm of the diagonals of all tensors of the model together.
    """

    diagonal: Tensor
    norm: float


@method("fisher", is_symmetric=False)
def fisher(
    tensors: Sequence[Tensor],
    fishers: Sequence[Fisher | None],
    coefficients: Sequence[float],
    *,
    floor: float = 1e-6,
    favor_target: bool = True,
    normalize: bool = True,
) -> Tensor:
    """Average the models, each entry weighted by its Fisher information.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        fishers: each model's Fisher information about its tensor, in the order of `tensors`;
            None for a tensor that is not a parameter, which is averaged.
        coefficients: M numbers of at least 0, in the order of `tensors`, not all 0.
        floor: lower bound of the information about an entry, finite and at least 0.
        favor_target: whether the floor applies to the first model only, whose values are then
            used where no other model has information; otherwise it applies to all models.
        normalize: whether each model's information, after the floor, is divided by its norm before
            the floor, so that its scale has no effect.

    Returns:
        The merged tensor; shape and dtype of the inputs. Where no model has any information and
        there is no floor, the mean weighted by the coefficients.

    Raises:
        ValueError: `floor` or a coefficient is out of its range, all coefficients are 0, or
            `normalize` is set and a model has no information.

    Source: the paper's weighted mean with a diagonal Fisher, in float64; floor, target and
    normalisation as in the authors' code. Other implementations add the floor, or divide by 0
    where no model has information.
    """
    if not 0 <= floor < float("inf"):
        raise ValueError(f"fisher: floor must be finite and at least 0, got {floor}")
    parts = positive_shares("fisher", coefficients)
    known = [own for own in fishers if own is not None]
    if len(known) < len(tensors):
        return linear(tensors, parts)
    mean = linear([tensor.double() for tensor in tensors], parts)
    if normalize:
        parts = _divided_by_norms(parts, known)
    posteriors = []
    for position, (tensor, own, part) in enumerate(zip(tensors, known, parts, strict=True)):
        least = floor if position == 0 or not favor_target else 0.0
        precision = own.diagonal.to(tensor.device).double().clamp(min=least) * part
        posteriors.append(gaussian(tensor.double(), precision))
    return gaussian_mean(product(posteriors), mean).to(tensors[0].dtype)


def _divided_by_norms(parts: Sequence[float], fishers: Sequence[Fisher]) -> list[float]:
    for position, own in enumerate(fishers):
        if own.norm == 0:
            raise ValueError(
                f"fisher: normalize needs information, got none about model {position}; set "
                "normalize to false, or prepare with more examples"
            )
    return [part / own.norm for part, own in zip(parts, fishers, strict=True)]
