"""Model Stock (Jang et al. 2024, https://arxiv.org/abs/2403.19522)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stockpot.merging.method import method


@method("model_stock", num_models=(2, None))
def model_stock(tensors: Sequence[Tensor], base: Tensor, *, filter_wise: bool = False) -> Tensor:
    """Interpolate from the base to the mean of the models; further for smaller angles between them.

    With c the mean cosine over pairs of task vectors, the weight of the mean is
    t = M c / (1 + (M - 1) c), and that of the base 1 - t.

    Args:
        tensors: M >= 2 same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        filter_wise: whether the angle is computed per row (first dimension) instead of per tensor.
            A tensor of one dimension is one row.

    Returns:
        The merged tensor; shape and dtype of the inputs. The base if no model differs from it.

    Source: the interpolation ratio for M models, layer-wise as in the paper. For c < 0
    the result is the base: the ratio would be negative, and unbounded at c = -1 / (M - 1). Cosines
    are in float64; mergekit bounds products of norms from below by 1e-6, so that short task
    vectors count as orthogonal.
    """
    by_row = filter_wise and base.ndim > 1
    rows = (base.shape[0], base[:1].numel()) if by_row else (1, base.numel())
    total = torch.zeros(rows, dtype=base.dtype, device=base.device)
    directions = torch.zeros_like(total, dtype=torch.float64)
    num_moved = directions.new_zeros(rows[0])
    for tensor in tensors:
        task_vector = (tensor - base).reshape(rows)
        norm = torch.linalg.vector_norm(task_vector, dim=1, dtype=torch.float64)
        directions += task_vector / norm.where(norm > 0, 1)[:, None]
        num_moved += norm > 0
        total += task_vector

    # The squared norm of a sum of unit vectors is their number plus twice the sum of cosines.
    count = len(tensors)
    cosine = (directions.square().sum(dim=1) - num_moved) / (count * (count - 1))
    cosine = cosine.clamp(0, 1)
    share = count * cosine / (1 + (count - 1) * cosine)
    return base + (total * (share / count).to(base.dtype)[:, None]).view(base.shape)
