"""Hyperparameters rescaled for another batch size (Hoffer et al. 2017).

https://arxiv.org/abs/1705.08741. Large batches generalise worse mostly because an epoch has fewer
steps. Importing this module imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import replace

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters


def adapted(how: Hyperparameters) -> Hyperparameters:
    """Rescale hyperparameters that are meant for `reference_batch` to their own batch size.

    With batches k times as large, the learning rate is multiplied by sqrt(k), so that the noise of
    steps stays the same (section 4), and the epochs by k, rounded, so that the number of steps
    stays the same (section 5, "regime adaptation"). So are the epochs of a probe.
    """
    if not how.reference_batch:
        return how
    larger = how.batch_size / how.reference_batch
    return replace(
        how,
        learning_rate=how.learning_rate * math.sqrt(larger),
        epochs=_scaled(how.epochs, larger),
        probe_epochs=_scaled(how.probe_epochs, larger),
        reference_batch=0,
    )


def _scaled(epochs: int, factor: float) -> int:
    """Multiply a number of epochs; at least 1 remains of any."""
    return max(min(epochs, 1), round(epochs * factor))
