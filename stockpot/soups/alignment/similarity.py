"""Similarity of the weights of two nets, per layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Cosine:
    """Similarity of two weights.

    Attributes:
        whole: the cosine between the weights.
        top: the cosine between their truncated singular value decompositions.
    """

    whole: float
    top: float


def layer_cosines(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], *, num_top: int = 5
) -> dict[str, Cosine]:
    """Compare each weight of two nets, in float64.

    With singular value decompositions of both, the cosine is the sum over i, j of
    s_i s'_j (u_i . u'_j) (v_i . v'_j), divided by both norms: it is large if singular vectors of
    large singular values are aligned, which `top` measures.

    Args:
        first: one net.
        second: the other one, with the same tensors and shapes.
        num_top: number of singular values for `top`, at least 1.

    Returns:
        A value for each tensor with two or more axes, where all but the first are flattened. The
        cosine of a zero weight is 0.

    Source: Ito et al. 2024, https://arxiv.org/abs/2402.04051, on why weight matching works; the
    paper's measure may differ.
    """
    cosines = {}
    for name, tensor in first.items():
        if tensor.ndim >= 2:
            pair = [x.detach().double().flatten(1) for x in (tensor, second[name])]  # (out, in)
            cosines[name] = Cosine(
                whole=_cosine(*pair), top=_cosine(*(_truncated(x, num_top) for x in pair))
            )
    return cosines


def _cosine(first: Tensor, second: Tensor) -> float:
    norms = float(first.norm() * second.norm())
    return float((first * second).sum()) / norms if norms else 0.0


def _truncated(matrix: Tensor, rank: int) -> Tensor:
    """Return the nearest matrix of the given rank."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    nearest: Tensor = (left[:, :rank] * values[:rank]) @ right[:rank]
    return nearest
