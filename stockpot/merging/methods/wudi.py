"""WUDI: data-free merging by interference (Cheng et al. 2025, https://arxiv.org/abs/2503.08099)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.task_vectors import check_scale
from stockpot.merging.search_ranges import Scale


@method("wudi")
def wudi(
    tensors: Sequence[Tensor],
    base: Tensor,
    *,
    scale: Scale = 1.0,
    steps: int = 300,
    learning_rate: float = 1e-5,
) -> Tensor:
    """Minimize the interference of the merged task vector with each task vector by Adam.

    The search starts from the sum of the task vectors. The interference of x with a task vector v
    is |(x - v) v^T|^2 / |v|^2, where the rows of v represent the inputs of that task. Tensors
    that are not matrices get the mean of the task vectors.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the base's tensor; same shape and dtype.
        scale: factor on the merged task vector.
        steps: number of Adam steps, at least 0; 0 returns the sum.
        learning_rate: of Adam, about the change of an entry per step; above 0.

    Returns:
        The merged tensor; shape and dtype of `base`.

    Raises:
        ValueError: an option is out of its range.

    Source: WUDI-Merging, with the reference code's Adam. The gradient is linear in x and its
    matrix is computed once, so that a step takes one or two matrix products for any number of
    models.
    """
    check_scale("wudi", scale)
    if not steps >= 0:
        raise ValueError(f"wudi: steps must be at least 0, got {steps}")
    if not learning_rate > 0:
        raise ValueError(f"wudi: learning_rate must be above 0, got {learning_rate}")
    task_vectors = [tensor - base for tensor in tensors]
    total = sum(task_vectors, torch.zeros_like(base))
    if base.ndim != 2:
        return base + total * (scale / len(tensors))
    gradient_after = _gradient(total, task_vectors)
    return base + (total + _adam(total, gradient_after, steps, learning_rate)) * scale


def _gradient(total: Tensor, task_vectors: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the gradient of the interference as a function of the offset from the sum.

    As a function of the offset it is exactly 0 for a single task vector. Rounding noise would be
    amplified by Adam, which divides by the size of the gradient.
    """
    used = [vector for vector in task_vectors if vector.any()]
    units = [vector / torch.linalg.vector_norm(vector) for vector in used]
    at_sum = torch.zeros_like(total)
    for vector, unit in zip(used, units, strict=True):
        at_sum += 2 * ((total - vector) @ unit.T) @ unit
    stacked = torch.cat(units) if units else torch.zeros_like(total)  # (M R, C)
    if stacked.shape[1] > 2 * stacked.shape[0]:  # for many columns, their products cost more
        return lambda offset: 2 * (offset @ stacked.T) @ stacked + at_sum
    products = 2 * stacked.T @ stacked  # (C, C)
    return lambda offset: offset @ products + at_sum


def _adam(
    like: Tensor, gradient: Callable[[Tensor], Tensor], steps: int, learning_rate: float
) -> Tensor:
    """Minimise from 0 by Adam (Kingma & Ba 2015, Algorithm 1) with its default options."""
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8
    x, m, v = (torch.zeros_like(like) for _ in range(3))
    for step in range(1, steps + 1):
        g = gradient(x)
        m.mul_(beta1).add_(g, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        size = (v / (1 - beta2**step)).sqrt_().add_(epsilon)
        x.addcdiv_(m, size, value=-learning_rate / (1 - beta1**step))
    return x
