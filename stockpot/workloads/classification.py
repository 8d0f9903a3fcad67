"""Metric and loss of the workloads for classification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockpot.workloads.metric_ranges import values_in

if TYPE_CHECKING:
    from torch import Tensor


@values_in(0, 1)
def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1.0 for each example whose largest output is its target, else 0.0; (N,)."""
    return (outputs.argmax(dim=-1) == targets).float()


def cross_entropies(outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """Return the cross entropy of each example, in nats; (N,).

    Args:
        outputs: logits (N, C).
        targets: classes (N,).
        label_smoothing: share of each target that is spread over all classes, in [0, 1).
    """
    from torch.nn import functional

    return functional.cross_entropy(
        outputs, targets, reduction="none", label_smoothing=label_smoothing
    )
