"""WSM: checkpoints of one run, merged as if its learning rate had decayed.

Tian et al. 2025, https://arxiv.org/abs/2507.17634.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.linear import linear

DECAYS: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "1-sqrt": lambda x: 1 - math.sqrt(x),
        "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
        "linear": lambda x: 1 - x,
    }
)
"""Decays of the learning rate, from 1 at the start of the decay (0) to 0 at its end (1)."""


def decay_coefficients(count: int, options: Mapping[str, Any]) -> list[float]:
    """Return the coefficients of checkpoints in the order of their run; their sum is 1.

    Args:
        count: the number of checkpoints.
        options: those of `wsm`.

    Raises:
        ValueError: `decay` is unknown.
    """
    name = options["decay"]
    if name not in DECAYS:
        raise ValueError(f"wsm: decay must be one of {sorted(DECAYS)}, got {name!r}")
    curve = [DECAYS[name](place / count) for place in range(count + 1)]
    return [before - after for before, after in pairwise(curve)]


@method("wsm", is_symmetric=False, is_elementwise=True, run_coefficients=decay_coefficients)
def wsm(tensors: Sequence[Tensor], *, decay: str = "1-sqrt") -> Tensor:
    """Average checkpoints of one run as if its learning rate had decayed between them.

    Of M checkpoints theta_0 to theta_{M-1}, the change from theta_{j-1} to theta_j counts
    w_j = decay(j / M) times, as a step with that share of the learning rate would have. The
    coefficient of theta_j is therefore decay(j / M) - decay((j + 1) / M).

    Args:
        tensors: M same-named tensors, one per checkpoint, the oldest first; one shape, float32 or
            float64.
        decay: `1-sqrt`, `cosine` or `linear`; `linear` is the mean of the checkpoints.

    Returns:
        The merged tensor; shape and dtype of the inputs. Equal to that of a run of plain SGD
        whose gradients after theta_0 were multiplied by w_j.

    Raises:
        ValueError: `decay` is unknown.

    Source: Theorem 3.1 (equation 5), for checkpoints at equal distances that end where the decay
    would reach 0, with the decay at j / M as in figure 2. The figure's fourth decay, 1 - 0.1^(1-x),
    is `pma_ema` with alpha = 1 - 0.1^(1/M).
    """
    return linear(tensors, decay_coefficients(len(tensors), {"decay": decay}))
