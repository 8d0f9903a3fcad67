"""Fisher-weighted averaging (Matena & Raffel 2022, https://arxiv.org/abs/2111.09832).

Not in the registry: beside the models it needs their Fisher information, which takes data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from stockpot.merging.shares import positive_shares


def fisher_average(
    tensors: Sequence[Tensor],
    fishers: Sequence[Tensor],
    coefficients: Sequence[float],
    *,
    floor: float = 1e-6,
    target: int | None = 0,
) -> Tensor:
    """Average the tensors, each entry weighted by how much the model's outputs depend on it.

    Args:
        tensors: M same-named tensors, one a model; one shape, float32 or float64.
        fishers: the diagonal of each model's Fisher information, in the order and shape of
            `tensors`; no entry is negative.
        coefficients: M numbers of at least 0, in the order of `tensors`, not all 0. To keep one
            model's overall scale from dominating, take them from `scale_by_norms`.
        floor: the least information that an entry counts with, at least 0.
        target: the position of the only model that the floor applies to, whose values stay
            where no model has information; None for all models.

    Returns:
        The merged tensor; shape and dtype of the inputs. Where no model has any information and
        there is no floor, the mean weighted by the coefficients.

    Raises:
        ValueError: `floor` or a coefficient is negative, or all coefficients are 0.

    Source: the weighted mean of the paper with a diagonal Fisher, in float64; floor and target
    as in the authors' code. Other implementations add the floor, or divide by 0 where no model
    has information.
    """
    if not floor >= 0:
        raise ValueError(f"fisher_average: floor must be at least 0, got {floor}")
    parts = positive_shares("fisher_average", coefficients)
    merged = torch.zeros_like(tensors[0], dtype=torch.float64)
    information = torch.zeros_like(merged)
    mean = torch.zeros_like(merged)
    floors = [floor if target in (None, position) else 0.0 for position in range(len(tensors))]
    for tensor, fisher, part, least in zip(tensors, fishers, parts, floors, strict=True):
        weight = fisher.double().clamp(min=least) * part
        information += weight
        merged += weight * tensor
        mean += tensor.double() * part
    merged = (merged / information).where(information > 0, mean)
    return merged.to(tensors[0].dtype)


def scale_by_norms(
    coefficients: Sequence[float], fishers: Sequence[Iterable[Tensor]]
) -> list[float]:
    """Divide each coefficient by the length of its model's Fisher information.

    Args:
        coefficients: M numbers.
        fishers: for each of M models all its Fisher tensors, before any floor.

    Returns:
        M coefficients for `fisher_average`.

    Raises:
        ValueError: the information of a model is 0 everywhere.

    Source: `normalize_fishers` of the authors' code.
    """
    norms = [math.hypot(*(_norm(tensor) for tensor in model)) for model in fishers]
    for position, norm in enumerate(norms):
        if norm == 0:
            raise ValueError(f"fisher of model {position}: must not be 0 everywhere, got 0")
    return [coefficient / norm for coefficient, norm in zip(coefficients, norms, strict=True)]


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))
