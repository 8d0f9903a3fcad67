"""AdamP (Heo et al. 2021, https://arxiv.org/abs/2006.08217)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torch.optim import Optimizer

_BETAS, _EPS = (0.9, 0.999), 1e-8
# Share of the weight decay for scale-invariant weights; wd_ratio in the authors' code.
_LEAST_DECAY = 0.1


class AdamP(Optimizer):
    """AdamW without steps along scale-invariant weights.

    Before a normalisation layer, the length of a weight has no effect on the outputs, but a longer
    weight makes effective steps shorter. For such weights the radial part of a step is removed,
    and the weight decay is a tenth.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        delta: float = 0.1,
    ) -> None:
        """Build the optimizer.

        Args:
            params: parameters, or groups of them.
            lr: learning rate.
            weight_decay: decoupled, as in AdamW.
            delta: a weight counts as scale-invariant where the cosine between it and its
                gradient is below delta / sqrt(number of entries); 0 is AdamW.
        """
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "delta": delta})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Do one step; the closure is ignored."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Update one tensor: algorithm 2 of the paper, as in the authors' code."""
        state = self.state[weight]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        state["step"] += 1
        first, second = (1 - beta ** float(state["step"]) for beta in _BETAS)  # bias corrections
        state["exp_avg"].lerp_(gradient, 1 - _BETAS[0])
        state["exp_avg_sq"].mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        root = (state["exp_avg_sq"].sqrt() / math.sqrt(second)).add_(_EPS)
        change, decay = state["exp_avg"] / root, group["weight_decay"]
        if weight.ndim > 1 and (view := _invariant_view(weight, gradient, group["delta"])):
            change, decay = _tangential(change.view(view), weight.view(view)), _LEAST_DECAY * decay
        weight.mul_(1 - group["lr"] * decay)
        weight.sub_(change.view_as(weight), alpha=group["lr"] / first)


def _invariant_view(weight: Tensor, gradient: Tensor, delta: float) -> tuple[int, int] | None:
    """Return the view whose rows are scale-invariant: channels or the whole; None if none."""
    for view in ((len(weight), -1), (1, -1)):
        rows, slopes = weight.reshape(view), gradient.reshape(view)
        cosines = cosine_similarity(slopes, rows, dim=1, eps=_EPS).abs()
        if bool(cosines.max() < delta / math.sqrt(rows.shape[1])):
            return view
    return None


def _tangential(change: Tensor, rows: Tensor) -> Tensor:
    """Remove from a change the part along each row."""
    unit = rows / (rows.norm(dim=1, keepdim=True) + _EPS)
    radial: Tensor = unit * (unit * change).sum(dim=1, keepdim=True)
    return change - radial
