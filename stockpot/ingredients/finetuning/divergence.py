"""Divergence: losses or weights that are not finite, or losses far above the first."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Maximum loss, as a multiple of the first step's loss, or of 1 if that is larger. AdamW's steps are
# as long as the learning rate, so even a far too high one can keep everything finite.
_MOST_TIMES_FIRST = 1e4


@dataclass(eq=False)
class Diverged(RuntimeError):  # an exception stores its positional arguments, so that it pickles
    """A fine-tuning run reached a loss that is too large, or a value that is not finite.

    Attributes:
        step: the step at which it was detected, counted from 1.
        total: number of steps of the whole run.
        value: the value.
        quantity: `loss`, or the name of a weight.
    """

    step: int
    total: int
    value: float
    quantity: str = "loss"

    def __str__(self) -> str:
        """Return one line for a log or a manifest."""
        return f"{self.quantity} became {self.value:.3g} at step {self.step} of {self.total}"


class LossWatch:
    """Collects losses on their device and checks many at once, so that no step waits for the CPU.

    Attributes:
        first_loss: loss of the run's first step; None until it has been checked.
    """

    def __init__(self, total: int, first_loss: float | None = None) -> None:
        self.first_loss = first_loss
        self._total = total
        self._losses: list[Tensor] = []
        self._steps_done = 0

    def add(self, loss: Tensor, *, steps_done: int) -> None:
        """Record the loss of the step after which `steps_done` steps are done."""
        self._losses.append(loss.detach())
        self._steps_done = steps_done

    def check(self) -> None:
        """Check the losses recorded since the last check.

        Raises:
            Diverged: a loss is not finite or far above the first; names the first such step.
        """
        if not self._losses:
            return
        values = torch.stack(self._losses).cpu()
        self._losses.clear()
        if self.first_loss is None:
            self.first_loss = float(values[0])
        # Comparisons with nan are false, so nan counts as bad.
        is_good = values.isfinite() & (values <= _MOST_TIMES_FIRST * max(1.0, self.first_loss))
        bad = (~is_good).nonzero()
        if len(bad):
            first = int(bad[0])
            step = self._steps_done - len(values) + 1 + first
            raise Diverged(step, self._total, float(values[first]))


def check_weights(model: nn.Module, total: int) -> None:
    """Check all weights after the last step.

    Raises:
        Diverged: a weight is not finite; names it.
    """
    for name, tensor in model.state_dict().items():
        finite = tensor.isfinite()
        if not bool(finite.all()):
            value = float(tensor[~finite].flatten()[0])
            raise Diverged(total, total, value, f"weight {name!r}")
