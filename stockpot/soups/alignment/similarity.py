"""Similarity of the weights of two nets, per layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional


def layer_cosines(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], *, num_top: int | None = None
) -> dict[str, float]:
    """Return the cosine between the weights of two nets for each layer, in float64.

    With singular value decompositions of both, the cosine is the sum over i, j of
    s_i s'_j (u_i . u'_j) (v_i . v'_j), divided by both norms: it is large if singular vectors of
    large singular values are aligned, which `num_top` measures.

    Args:
        first: one net.
        second: the other one, with the same tensors and shapes.
        num_top: compare truncated decompositions, with this number of singular values, at least
            1; None: the weights.

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
            if num_top is not None:
                pair = [_truncated(x, num_top) for x in pair]
            one, other = (x.flatten() for x in pair)
            cosines[name] = float(functional.cosine_similarity(one, other, dim=0))
    return cosines


def _truncated(matrix: Tensor, rank: int) -> Tensor:
    """Return the nearest matrix of the given rank."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    nearest: Tensor = (left[:, :rank] * values[:rank]) @ right[:rank]
    return nearest
