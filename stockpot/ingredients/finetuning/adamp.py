"""AdamP (Heo et al. 2021, https://arxiv.org/abs/2006.08217)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from stockpot.ingredients.finetuning.scale_invariance import EPS, TensorwiseOptimizer, projected

_BETAS = (0.9, 0.999)


class AdamP(TensorwiseOptimizer):
    """AdamW without steps along scale-invariant weights.

    For such weights the radial part of a step is removed, and the weight decay is reduced.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
    ) -> None:
        """Build the optimizer.

        Args:
            params: parameters, or groups of them.
            lr: learning rate.
            weight_decay: decoupled, as in AdamW.
            delta: threshold of scale-invariance, see `projected`; 0 is AdamW.
            wd_ratio: factor on the weight decay of scale-invariant weights.
            nesterov: whether a step looks ahead by the present gradient.
        """
        defaults = {"lr": lr, "weight_decay": weight_decay, "delta": delta}
        super().__init__(params, defaults | {"wd_ratio": wd_ratio, "nesterov": nesterov})

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Update one tensor: algorithm 2 of the paper, as in the authors' code."""
        state = self.state[weight]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        state["step"] += 1
        first, second = (1 - beta ** float(state["step"]) for beta in _BETAS)  # bias corrections
        mean = state["exp_avg"].lerp_(gradient, 1 - _BETAS[0])
        state["exp_avg_sq"].mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        root = (state["exp_avg_sq"].sqrt() / math.sqrt(second)).add_(EPS)
        ahead = mean.lerp(gradient, 1 - _BETAS[0]) if group["nesterov"] else mean
        change, is_invariant = projected(ahead / root, weight, gradient, group["delta"])
        decay = group["weight_decay"] * (group["wd_ratio"] if is_invariant else 1)
        weight.mul_(1 - group["lr"] * decay)
        weight.sub_(change, alpha=group["lr"] / first)
