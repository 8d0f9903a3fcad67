"""Singular value decomposition without the arbitrary vectors of singular value 0."""

from __future__ import annotations

import torch
from torch import Tensor


def svd_on_support(matrix: Tensor, whole: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Decompose a matrix (R, C) into U diag(s) V^T, with only the singular values that are not 0.

    Singular vectors of 0 are an arbitrary basis, which differs between machines. The threshold is
    that of `torch.linalg.matrix_rank`.

    Args:
        matrix: the matrix to decompose.
        whole: for a `matrix` that is the remainder of another one after a projection: that one,
            whose Frobenius norm then sets the threshold, since it sets the rounding noise.

    Returns:
        U (R, K), s (K,) in descending order, V^T (K, C).
    """
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    largest = s[:1] if whole is None else torch.linalg.matrix_norm(whole)
    rank = int((s > largest * max(matrix.shape) * torch.finfo(s.dtype).eps).sum())
    return u[:, :rank], s[:rank], vt[:rank]


def polar_factor(matrix: Tensor) -> Tensor:
    """Return the nearest matrix with orthonormal columns, or rows, within the matrix's span."""
    u, _, vt = svd_on_support(matrix)
    return u @ vt
