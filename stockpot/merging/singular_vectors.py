"""Singular value decomposition without the directions that are arbitrary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def svd_on_support(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Decompose a matrix (R, C) into U diag(s) V^T, with only the s that are not 0.

    Singular vectors of 0 are any basis of the rest, so another one on each machine. What counts
    as 0 is `torch.linalg.matrix_rank`'s rule.

    Returns:
        U (R, K), s (K,) in descending order, V^T (K, C).
    """
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    rank = int((s > s[:1] * max(matrix.shape) * torch.finfo(s.dtype).eps).sum())
    return u[:, :rank], s[:rank], vt[:rank]


def polar_factor(matrix: Tensor) -> Tensor:
    """Return the nearest matrix with orthonormal columns, or rows, within the matrix's span."""
    u, _, vt = svd_on_support(matrix)
    return u @ vt
