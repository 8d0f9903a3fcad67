"""TSV-M: task singular vectors (Gargiulo et al. 2025, https://arxiv.org/abs/2412.00081)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.singular_vectors import polar_factor, svd_on_support
from stockpot.merging.methods.task_vectors import check_scale
from stockpot.merging.search_ranges import Scale


@method("tsv")
def tsv(tensors: Sequence[Tensor], base: Tensor, *, scale: Scale = 1.0) -> Tensor:
    """Merge the leading singular vectors of the task vectors after making them orthogonal.

    Each of M models keeps 1/M of its singular vectors. Tensors that are not matrices get the
    mean of the task vectors.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the base's tensor; same shape and dtype.
        scale: factor on the merged task vector (the paper's alpha).

    Returns:
        The merged tensor; shape and dtype of `base`.

    Raises:
        ValueError: `scale` is not finite.

    Source: TSV-Merge. Vectors of singular value 0 are left out, and linearly dependent vectors of
    several models are orthogonalized within their span: in the paper's procedure both add
    directions that are rounding noise. A model keeps at least one vector.
    """
    check_scale("tsv", scale)
    task_vectors = [tensor - base for tensor in tensors]
    if base.ndim != 2:
        return base + sum(task_vectors, torch.zeros_like(base)) * (scale / len(tensors))
    num_kept = max(1, min(base.shape) // len(tensors))
    kept = [svd_on_support(task_vector) for task_vector in task_vectors]
    u = torch.cat([u[:, :num_kept] for u, _, _ in kept], dim=1)  # (R, K)
    s = torch.cat([s[:num_kept] for _, s, _ in kept])
    vt = torch.cat([vt[:num_kept] for _, _, vt in kept])  # (K, C)
    return base + (polar_factor(u) * s) @ polar_factor(vt) * scale
