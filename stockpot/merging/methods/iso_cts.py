"""Iso-CTS, isotropic merging in common and task-specific subspaces (Marczak et al. 2025).

https://arxiv.org/abs/2502.04959
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.singular_vectors import polar_factor, svd_on_support
from stockpot.merging.methods.task_vectors import check_scale
from stockpot.merging.search_ranges import Scale, SearchRange


@method("iso_cts")
def iso_cts(
    tensors: Sequence[Tensor],
    base: Tensor,
    *,
    common: Annotated[float, SearchRange(0.1, 1.0)] = 0.8,
    scale: Scale = 1.0,
) -> Tensor:
    """Merge common and task-specific directions of the task vectors, with equal singular values.

    The common directions are the leading singular directions of the sum of the task vectors. The
    specific ones of a task vector are its leading directions after the span of the common ones is
    projected out. All are orthogonalized together and get the mean of their singular values.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        common: fraction of directions that are common, in (0, 1]; the others are split evenly
            between the models. 1 is Iso-C.
        scale: finite factor on the merged task vector (the paper's alpha).

    Returns:
        The merged tensor; shape and dtype of the inputs. For tensors that are not matrices: the
        base plus `scale` times the mean task vector.

    Raises:
        ValueError: an option is out of range.

    Source: Algorithm 2, numbers of directions as in the authors' code. Directions with
    singular value 0 are left out, also of the mean, as in `iso_c`, so there may be fewer.
    """
    if not 0 < common <= 1:
        raise ValueError(f"iso_cts: common must be in (0, 1], got {common}")
    check_scale("iso_cts", scale)
    task_vectors = [tensor - base for tensor in tensors]
    total = sum(task_vectors, torch.zeros_like(base))
    if base.ndim != 2:
        return base + total * (scale / len(tensors))
    num_common, num_own = _numbers(min(base.shape), len(tensors), common)
    shared = _leading(svd_on_support(total), num_common)
    u = shared[0]  # (R, K)
    rests = [task_vector - u @ (u.mT @ task_vector) for task_vector in task_vectors]
    own = [
        _leading(svd_on_support(rest, task_vector), num_own)
        for rest, task_vector in zip(rests, task_vectors, strict=True)
    ]
    us, strengths, vts = zip(shared, *own, strict=True)
    s = torch.cat(strengths)
    mean = s.sum() / max(1, len(s))
    return base + polar_factor(torch.cat(us, dim=1)) @ polar_factor(torch.cat(vts)) * (scale * mean)


def _numbers(rank: int, num_models: int, common: float) -> tuple[int, int]:
    """Return the number of common directions, and that of specific ones per model."""
    own = round((rank - int(common * rank)) / num_models)
    own = min(own, rank // num_models)  # rounding may exceed the rank
    return rank - own * num_models, own


def _leading(parts: tuple[Tensor, Tensor, Tensor], count: int) -> tuple[Tensor, Tensor, Tensor]:
    u, s, vt = parts
    return u[:, :count], s[:count], vt[:count]
