"""Sharpness-aware minimisation (Foret et al. 2021, https://arxiv.org/abs/2010.01412)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def sharpness_aware(gradient: Callable[[], Tensor], model: nn.Module, radius: float) -> Tensor:
    """Leave in a model the gradient at the point uphill from its weights, and return the loss.

    The point is `radius` along the gradient (equation 2). Weights and buffers are afterwards the
    bits that they were after the first pass, so BatchNorm counts each batch once.

    Args:
        gradient: puts the gradient at the model's weights into it, and returns the loss there;
            scaled gradients will do, since a direction is all that is used of the first.
        model: with parameters, of which those without a gradient stay.
        radius: the paper's rho, above 0.

    Returns:
        The loss at the model's own weights.
    """
    loss = gradient()
    moved = [(one, one.grad) for one in model.parameters() if one.grad is not None]
    length = torch.stack([slope.norm() for _, slope in moved]).norm()
    if not (length.isfinite() and length > 0):
        return loss  # there is no direction: a scale of fp16 that was too large, or a flat place
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
