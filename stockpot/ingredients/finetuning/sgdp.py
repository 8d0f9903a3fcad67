"""SGDP (Heo et al. 2021, https://arxiv.org/abs/2006.08217)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from stockpot.ingredients.finetuning.scale_invariance import TensorwiseOptimizer, projected


class SGDP(TensorwiseOptimizer):
    """SGD with momentum, without steps along scale-invariant weights.

    For such weights the radial part of a step is removed, and the weight decay is reduced. Unlike
    in torch's SGD, weight decay is decoupled.
    """

    def __init__(  # noqa: PLR0913 (each is an option of the paper)
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
    ) -> None:
        """Build the optimizer.

        Args:
            params: parameters, or groups of them.
            lr: learning rate.
            momentum: below 1.
            weight_decay: the decay of a step, times 1 - momentum, since steps with momentum are
                longer by the inverse of that.
            delta: threshold of scale-invariance, see `projected`; 0 is SGD with momentum.
            wd_ratio: factor on the weight decay of scale-invariant weights.
            nesterov: whether a step looks ahead by the present gradient.
        """
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "delta": delta}
        super().__init__(params, defaults | {"wd_ratio": wd_ratio, "nesterov": nesterov})

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Update one tensor: algorithm 1 of the paper, as in the authors' code."""
        state, momentum = self.state[weight], group["momentum"]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer = state["momentum_buffer"].mul_(momentum).add_(gradient)
        ahead = gradient.add(buffer, alpha=momentum) if group["nesterov"] else buffer
        change, is_invariant = projected(ahead, weight, gradient, group["delta"])
        decay = group["weight_decay"] * (group["wd_ratio"] if is_invariant else 1)
        weight.mul_(1 - group["lr"] * decay / (1 - momentum))
        weight.sub_(change, alpha=group["lr"])
