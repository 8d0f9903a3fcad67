"""Singular value decomposition without the directions that are arbitrary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def svd_on_support(matrix: Tensor, whole: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Decompose a matrix (R, C) into U diag(s) V^T, with only the s that are not 0.

    Singular vectors of 0 are any basis of the rest, so another one on each machine. What counts
    as 0 is `torch.linalg.matrix_rank`'s rule.

    Args:
        matrix: what is decomposed.
        whole: the matrix that `matrix` is what is left of, whose rounding noise it holds; its
            Frobenius norm is then what an s is compared with.

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
