"""Sharpness-aware minimisation (Foret et al. 2021, https://arxiv.org/abs/2010.01412)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def sharpness_aware(gradient: Callable[[], Tensor], model: nn.Module, radius: float) -> Tensor:
    """Compute the gradient at the ascended point, leave it in the model, and return the loss.

    The point is `radius` along the gradient (equation 2). Weights and buffers are restored to their
    bits after the first pass, so BatchNorm counts each batch once.

    Args:
        gradient: computes the gradient at the model's weights, into the model, and returns the
            loss there. Gradients may be scaled: of the first, only the direction is used.
        model: parameters without a gradient do not move.
        radius: the paper's rho, above 0.

    Returns:
        The loss at the model's own weights.
    """
    loss = gradient()
    moved = [(one, one.grad) for one in model.parameters() if one.grad is not None]
    length = torch.stack([slope.norm() for _, slope in moved]).norm()
    if not (length.isfinite() and length > 0):
        return loss  # no direction: the fp16 scale was too large, or the gradient is 0
    weights = [one.detach().clone() for one, _ in moved]
    buffers = [buffer.clone() for buffer in model.buffers()]
    with torch.no_grad():
        for one, slope in moved:
            one.add_(slope * (radius / length))
    gradient()
    with torch.no_grad():
        for (one, _), old in zip(moved, weights, strict=True):
            one.copy_(old)
        for buffer, old in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(old)
    return loss
