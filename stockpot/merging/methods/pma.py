"""PMA: moving averages of the checkpoints of one run.

Li et al. 2025, https://arxiv.org/abs/2505.12082. The third of the paper's means, which weights all
checkpoints equally (SMA), is `linear` with equal coefficients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.linear import linear


def growing_coefficients(count: int, _options: Mapping[str, Any]) -> list[float]:
    """Return the coefficients of `pma_wma` for checkpoints in the order of their run; sum 1."""
    return [place / (count * (count + 1) / 2) for place in range(1, count + 1)]


def exponential_coefficients(count: int, options: Mapping[str, Any]) -> list[float]:
    """Return the coefficients of `pma_ema` for checkpoints in the order of their run; sum 1.

    Raises:
        ValueError: `alpha` is out of its range.
    """
    alpha = options["alpha"]
    if not 0 < alpha <= 1:
        raise ValueError(f"pma_ema: alpha must be in (0, 1], got {alpha}")
    later = [alpha * (1 - alpha) ** (count - place) for place in range(2, count + 1)]
    return [(1 - alpha) ** (count - 1), *later]


@method("pma_wma", is_symmetric=False, is_elementwise=True, run_coefficients=growing_coefficients)
def pma_wma(tensors: Sequence[Tensor]) -> Tensor:
    """Average checkpoints of one run with coefficients that grow linearly.

    Args:
        tensors: M same-named tensors, one per checkpoint, the oldest first; one shape, float32 or
            float64.

    Returns:
        The merged tensor; shape and dtype of the inputs: the i-th checkpoint of M (from 1) has the
        coefficient 2 i / (M (M + 1)).

    Source: section 3, the weighted moving average (WMA) with w_i = i.
    """
    return linear(tensors, growing_coefficients(len(tensors), {}))


@method(
    "pma_ema", is_symmetric=False, is_elementwise=True, run_coefficients=exponential_coefficients
)
def pma_ema(tensors: Sequence[Tensor], *, alpha: float = 0.2) -> Tensor:
    """Average checkpoints of one run exponentially, the latest most.

    From the first checkpoint, average = alpha * checkpoint + (1 - alpha) * average.

    Args:
        tensors: M same-named tensors, one per checkpoint, the oldest first; one shape, float32 or
            float64.
        alpha: share of each new checkpoint in the average, in (0, 1]; 1 is the latest one alone.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: `alpha` is out of its range.

    Source: section 3, the exponential moving average (EMA), which the paper tries with an alpha of
    0.1 and, better, 0.2.
    """
    return linear(tensors, exponential_coefficients(len(tensors), {"alpha": alpha}))
