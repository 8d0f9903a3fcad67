"""SCE, select, calculate, erase: the merging of FuseChat (https://arxiv.org/abs/2408.07990)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.magnitude_cuts import find_cuts, keep_largest, num_kept
from stockpot.merging.runs import Runs


@method("sce")
def sce(tensors: Sequence[Tensor], base: Tensor, *, select_topk: float = 1.0) -> Tensor:
    """Average task vectors by their energy, in entries where models differ and agree in sign.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        select_topk: fraction of the entries with variance over models that is selected, those of
            largest variance, in [0, 1]; 1 selects all entries, also those without variance, and 0
            none, which gives the base.

    Returns:
        The merged tensor; shape and dtype of the inputs. With `select_topk` below 1, equal
        models, or a single one, have no variance and give the base.

    Raises:
        ValueError: `select_topk` is out of range.

    Source: Wan et al. 2024. At least one of the entries with variance is selected,
    otherwise small tensors would be reset to the base. A model's weight is its fraction of the sum
    of squares; mergekit uses equal weights where the total is below 1e-6, also for short task
    vectors. A sum of 0 elects no sign, see `ties`.
    """
    if not 0 <= select_topk <= 1:
        raise ValueError(f"sce: select_topk must be in [0, 1], got {select_topk}")
    selected = _select(tensors, base, select_topk)
    sizes, votes = [], torch.zeros_like(base)
    for tensor in tensors:
        task_vector = (tensor - base).where(selected, 0)
        votes += task_vector
        sizes.append(float(torch.linalg.vector_norm(task_vector, dtype=torch.float64)))
    largest = max(sizes)
    if largest == 0:
        return base.clone()

    merged, total = torch.zeros_like(base), torch.zeros_like(base)
    for tensor, size in zip(tensors, sizes, strict=True):
        weight = (size / largest) ** 2  # up to a factor that cancels with the total below
        task_vector = tensor - base
        agrees = task_vector.sign() == votes.sign()  # votes are 0 where nothing is selected
        merged += (task_vector * weight).where(agrees, 0)
        total += agrees.to(base.dtype) * weight
    return base + merged / total.where(total > 0, 1)


def _select(tensors: Sequence[Tensor], base: Tensor, share: float) -> Tensor:
    """Return the mask of the fraction of entries with the largest variance over the models."""
    if share == 1:
        return torch.ones_like(base, dtype=torch.bool)
    mean, variance = torch.zeros_like(base), torch.zeros_like(base)  # up to the factor M
    for count, tensor in enumerate(tensors, start=1):
        task_vector = tensor - base
        step = task_vector - mean
        mean += step / count
        variance += step * (task_vector - mean)  # Welford: exactly 0 for equal models
    variance.clamp_(min=0)
    num_varying = int(variance.count_nonzero())
    ((cut,),) = find_cuts(Runs.of([variance]), [[num_kept(num_varying, share)]])
    return keep_largest(variance, cut) > 0
