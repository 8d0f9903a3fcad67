"""Temperature scaling: one number per model, fitted on val, that calibrates its confidence."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOWEST, HIGHEST = 0.05, 20.0
"""The range of temperatures: without mistakes on val, ever lower ones would fit better."""


def fit_temperature(outputs: Tensor, targets: Tensor) -> float:
    """Return the temperature T at which softmax(outputs / T) has the least mean NLL.

    The NLL is convex in 1 / T and so has one minimum in log T, which Brent's method finds.
    Dividing by T changes no predicted class.

    Args:
        outputs: logits (N, C) on val.
        targets: classes (N,).

    Returns:
        A number in [0.05, 20]; 1 if no other is better.

    Source: Guo et al. 2017 (https://arxiv.org/abs/1706.04599), section 4.2.
    """
    from scipy.optimize import minimize_scalar

    # Logits relative to the target's: the NLL of an example is log sum exp of what remains.
    margins = outputs.double() - outputs.double().gather(1, targets[:, None])  # (N, C)

    def mean_nll(log_temperature: float) -> float:
        return float(torch.logsumexp(margins / math.exp(log_temperature), dim=1).mean())

    bounds = (math.log(LOWEST), math.log(HIGHEST))
    found = minimize_scalar(mean_nll, bounds=bounds, method="bounded", options={"xatol": 1e-8})
    return math.exp(found.x) if found.fun < mean_nll(0.0) else 1.0
