"""Low-rank changes B A merged without forming them: what is computed with is factors alone.

A is (r, in, ...) and B is (out, r, ...); further axes are those of convolutions, of size 1 in B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Truncated:
    """The best approximation of a change by one of lower rank.

    Attributes:
        a: its first factor.
        b: its second factor.
        error: Frobenius norm of what was left out.
        norm: Frobenius norm of the whole change.
    """

    a: Tensor
    b: Tensor
    error: float
    norm: float


def concatenate(
    factors: Sequence[tuple[Tensor, Tensor]], multipliers: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Sum changes exactly: side by side, their factors are those of the sum.

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
    """Approximate B A by a change of rank at most `rank`, with the least squared error.

    B = Q_b R_b and A' = Q_a R_a, so B A = Q_b (R_b R_a') Q_a', and the singular values are those
    of the small matrix between. Its root goes to either side. In float64.

    Args:
        a: (r, in, ...).
        b: (out, r, ...).
        rank: of the result, at least 1; with `rank` >= r the factors stay as they are.

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
