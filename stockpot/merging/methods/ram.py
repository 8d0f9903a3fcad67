"""RAM: average changes over the models that made them (https://arxiv.org/abs/2601.13572)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.search_ranges import Share


@method("ram", is_elementwise=True)
def ram(tensors: Sequence[Tensor], base: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """Add to each entry of the base the mean change over the models that changed it.

    A change that only one model made is applied in full, not divided by the number of models.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the base's tensor; same shape and dtype.
        epsilon: changes of at most this size are ignored, at least 0.

    Returns:
        The merged tensor; shape and dtype of `base`.

    Raises:
        ValueError: `epsilon` is negative.

    Source: Reinforced Agent Merging, as in mergekit's `ram`.
    """
    if not epsilon >= 0:
        raise ValueError(f"ram: epsilon must be at least 0, got {epsilon}")
    merged, _ = _mean_change(tensors, base, epsilon)
    return base + merged


@method("ram_plus")
def ram_plus(
    tensors: Sequence[Tensor],
    base: Tensor,
    *,
    r: Share = 0.1,
    alpha: Share = 0.2,
    epsilon: float = 1e-5,
) -> Tensor:
    """Merge as `ram`, and amplify changes that only one model made.

    They make up for the model's changes that are averaged: its unique changes are multiplied by
    1 + r min(shared / unique, alpha), with the numbers of entries that it changed with others
    and alone.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the base's tensor; same shape and dtype.
        r: strength of the amplification, at least 0; 0 gives `ram`.
        alpha: upper bound of the ratio of shared to unique, at least 0.
        epsilon: changes of at most this size are ignored, at least 0.

    Returns:
        The merged tensor; shape and dtype of `base`.

    Raises:
        ValueError: an option is negative.

    Source: Reinforced Agent Merging Plus, with one ratio per tensor, as in
    mergekit's `ramplus_tl`.
    """
    for name, value in {"r": r, "alpha": alpha, "epsilon": epsilon}.items():
        if not value >= 0:
            raise ValueError(f"ram_plus: {name} must be at least 0, got {value}")
    merged, num_models = _mean_change(tensors, base, epsilon)
    for tensor in tensors:
        change = tensor - base
        is_active = change.abs() > epsilon
        is_unique = is_active & (num_models == 1)
        num_active, num_unique = int(is_active.sum()), int(is_unique.sum())
        ratio = (num_active - num_unique) / max(1, num_unique)
        merged += (change * is_unique) * (r * min(ratio, alpha))
    return base + merged


def _mean_change(tensors: Sequence[Tensor], base: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return the mean change over the models that changed an entry, and their number."""
    total = torch.zeros_like(base)
    num_models = torch.zeros_like(base, dtype=torch.int16)
    for tensor in tensors:
        change = tensor - base
        is_active = change.abs() > epsilon
        total += change * is_active
        num_models += is_active
    return total / num_models.clamp(min=1), num_models
