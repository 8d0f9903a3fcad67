"""Fisher-weighted averaging (Matena & Raffel 2022, https://arxiv.org/abs/2111.09832)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.shares import positive_shares


class Fisher(NamedTuple):
    """What a model's outputs say about one of its tensors.

    Attributes:
        diagonal: of the Fisher information; the tensor's shape, no entry is negative.
        norm: length of the diagonals of all of the model's tensors together.
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
    """Average the models, each entry weighted by how much its model's outputs depend on it.

    Args:
        tensors: M same-named tensors, one a model; one shape, float32 or float64.
        fishers: each model's Fisher information about its tensor, in the order of `tensors`;
            None for a tensor that is no parameter, which is averaged.
        coefficients: M numbers of at least 0, in the order of `tensors`, not all 0.
        floor: the least information that an entry counts with, finite and at least 0.
        favor_target: the floor is for the first model alone, whose values then stay where no
            other model has information; else it is for all models.
        normalize: each model's information, after the floor, is divided by the length that all
            of it has before, so that no model counts more for being larger everywhere.

    Returns:
        The merged tensor; shape and dtype of the inputs. Where no model has any information and
        there is no floor, the mean weighted by the coefficients.

    Raises:
        ValueError: `floor` or a coefficient is out of its range, all coefficients are 0, or
            `normalize` is asked for a model without any information.

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
    merged = torch.zeros_like(mean)
    information = torch.zeros_like(mean)
    for position, (tensor, own, part) in enumerate(zip(tensors, known, parts, strict=True)):
        least = floor if position == 0 or not favor_target else 0.0
        weight = own.diagonal.double().clamp(min=least) * part
        information += weight
        merged += weight * tensor
    return (merged / information).where(information > 0, mean).to(tensors[0].dtype)


def _divided_by_norms(parts: Sequence[float], fishers: Sequence[Fisher]) -> list[float]:
    for position, own in enumerate(fishers):
        if own.norm == 0:
            raise ValueError(
                f"fisher: normalize needs information, got none about model {position}; set "
                "normalize to false, or prepare with more examples"
            )
    return [part / own.norm for part, own in zip(parts, fishers, strict=True)]
