"""The schedule of batches larger than those a recipe was made for (Hoffer et al. 2017).

https://arxiv.org/abs/1705.08741. What a large batch loses against a small one is mostly steps, of
which an epoch then has fewer. Importing this module imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import replace

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters


def adapted(how: Hyperparameters) -> Hyperparameters:
    """Return hyperparameters that were meant for batches of `reference_batch`, for its own.

    With batches k times as large, the learning rate is sqrt(k) times as high, so that steps
    scatter as much (section 4), and there are k times as many epochs, rounded: as many steps, and
    the schedule stretched over them (section 5, "regime adaptation"). A probe's epochs too.
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
    """Multiply a number of epochs; some remain some."""
    return max(min(epochs, 1), round(epochs * factor))
