"""Sums and truncations of low-rank matrices B A from the factors alone, and factors of a matrix.

A is (r, in, ...) and B is (out, r, ...); further axes are those of convolutions, of size 1 in B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Truncated:
    """The best approximation of B A with a given rank.

    Attributes:
        a: the factor A.
        b: the factor B.
        error: Frobenius norm of the difference from the exact product.
        norm: Frobenius norm of the exact product.
    """

    a: Tensor
    b: Tensor
    error: float
    norm: float


def concatenate(
    factors: Sequence[tuple[Tensor, Tensor]], multipliers: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Sum products exactly, by concatenating their factors.

    Args:
        factors: M pairs of A (r_i, in, ...) and B (out, r_i, ...), in float32 or wider.
        multipliers: M factors on B_i A_i.

    Returns:
        A and B of the sum, with rank r_1 + ... + r_M.
    """
    a = torch.cat([a for a, _ in factors])
    b = torch.cat([b * m for (_, b), m in zip(factors, multipliers, strict=True)], dim=1)
    return a, b


def truncate(a: Tensor, b: Tensor, rank: int) -> Truncated:
    """Approximate B A with rank at most `rank` and the least squared error.

    B = Q_b R_b and A' = Q_a R_a, so B A = Q_b (R_b R_a') Q_a' has the singular values of the small
    matrix R_b R_a'. Each factor gets their square roots. Computed in float64.

    Args:
        a: (r, in, ...).
        b: (out, r, ...).
        rank: of the result, at least 1; with `rank` >= r the factors are returned unchanged.

    Source: Eckart & Young 1936.
    """
    q_b, r_b = torch.linalg.qr(b.double().flatten(1))
    q_a, r_a = torch.linalg.qr(a.double().flatten(1).T)
    u, singular, vh = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    norm = float(singular.norm())
    if rank >= len(a):
        return Truncated(a, b, 0.0, norm)
    root = singular[:rank].sqrt()
    new_a = (root.unsqueeze(1) * vh[:rank]) @ q_a.T
    new_b = q_b @ (u[:, :rank] * root)
    return Truncated(
        new_a.to(a.dtype).reshape(-1, *a.shape[1:]),
        new_b.to(b.dtype).reshape(len(b), -1, *b.shape[2:]),
        float(singular[rank:].norm()),
        norm,
    )


def factorize(matrix: Tensor, rank: int, energy: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the factors of the best approximation of a matrix, of the least squared error.

    The right singular vectors V_r are the leading eigenvectors of M' M (of the smaller of M' M and
    M M'), which is several times faster than a singular value decomposition; M V_r V_r' is then
    the best approximation up to about 1e-8 of the largest singular value. Each factor gets the
    square roots of the singular values.

    Args:
        matrix: M, (out, in), float64.
        rank: the largest rank, at least 1.
        energy: the fraction in (0, 1] of the squared Frobenius norm that suffices; the rank is the
            smallest that reaches it.

    Returns:
        A (r, in) and B (out, r), float64.

    Source: Eckart & Young 1936.
    """
    if matrix.shape[0] < matrix.shape[1]:
        a, b = factorize(matrix.T, rank, energy)
        return b.T, a.T
    squares, vectors = torch.linalg.eigh(matrix.T @ matrix)
    squares, vectors = squares.flip(0).clamp(min=0), vectors.flip(1)
    missing = squares.flip(0).cumsum(0).flip(0)  # [r]: what a rank of r leaves out
    enough = int((missing > (1 - energy) * missing[0]).sum())
    kept = vectors[:, : max(1, min(rank, enough))]
    product = matrix @ kept
    roots = torch.linalg.vector_norm(product, dim=0).sqrt()
    scales = torch.where(roots > 0, roots, 1)
    return roots.unsqueeze(1) * kept.T, product / scales
