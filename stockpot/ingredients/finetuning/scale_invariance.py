"""Steps without their part along scale-invariant weights (Heo et al. 2021).

https://arxiv.org/abs/2006.08217. Before a normalisation layer the length of a weight has no effect
on the outputs, but a longer weight makes effective steps shorter.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torch.optim import Optimizer

EPS = 1e-8


class TensorwiseOptimizer(Optimizer):
    """An optimizer that updates one tensor after another."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Do one step; the closure is ignored."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Update one tensor, in place."""
        raise NotImplementedError


def projected(
    change: Tensor, weight: Tensor, gradient: Tensor, delta: float
) -> tuple[Tensor, bool]:
    """Remove the radial part of a step if the weight is scale-invariant.

    Args:
        change: the step of a tensor, before the learning rate.
        weight: the tensor.
        gradient: its gradient; all three have one shape.
        delta: a weight counts as scale-invariant where the cosine between it and its gradient is
            below delta / sqrt(number of entries), for every channel, else as a whole; at 0 none is.

    Returns:
        The step, and whether the weight is scale-invariant. Biases and other vectors never are.
    """
    view = _invariant_view(weight, gradient, delta) if weight.ndim > 1 else None
    if view is None:
        return change, False
    return _tangential(change.reshape(view), weight.reshape(view)).view_as(weight), True


def _invariant_view(weight: Tensor, gradient: Tensor, delta: float) -> tuple[int, int] | None:
    """Return the view whose rows are scale-invariant: channels or the whole; None if none."""
    for view in ((len(weight), -1), (1, -1)):
        rows, slopes = weight.reshape(view), gradient.reshape(view)
        cosines = cosine_similarity(slopes, rows, dim=1, eps=EPS).abs()
        if bool(cosines.max() < delta / math.sqrt(rows.shape[1])):
            return view
    return None


def _tangential(change: Tensor, rows: Tensor) -> Tensor:
    """Remove from a change the part along each row."""
    unit = rows / (rows.norm(dim=1, keepdim=True) + EPS)
    radial: Tensor = unit * (unit * change).sum(dim=1, keepdim=True)
    return change - radial
