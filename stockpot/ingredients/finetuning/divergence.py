"""Runs whose loss or weights stop being finite, or whose loss leaves all bounds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# A loss so many times that of the first step, or of 1 if that is more, is no training any more.
# AdamW's steps are as long as the learning rate, so a far too high one can keep all finite.
_MOST_TIMES_FIRST = 1e4


class Diverged(RuntimeError):
    """A fine-tuning run came to a loss beyond all bounds, or to a weight that is not finite.

    Attributes:
        step: the step at which it was seen, counted from 1.
        total: the number of steps of the whole run.
        value: the value.
        quantity: what had it, `loss` or the name of a weight.
    """

    def __init__(self, step: int, total: int, value: float, quantity: str = "loss") -> None:
        super().__init__(step, total, value, quantity)  # all arguments, so that it pickles
        self.step = step
        self.total = total
        self.value = value
        self.quantity = quantity

    def __str__(self) -> str:
        """Return one line for a log or a manifest."""
        return f"{self.quantity} became {self.value:.3g} at step {self.step} of {self.total}"


class LossWatch:
    """Collects losses on their device and checks them many at a time, so that no step waits.

    Attributes:
        first_loss: the loss of the run's first step; None until it has been checked.
    """

    def __init__(self, total: int, first_loss: float | None = None) -> None:
        self.first_loss = first_loss
        self._total = total
        self._losses: list[Tensor] = []
        self._steps_done = 0

    def add(self, loss: Tensor, *, steps_done: int) -> None:
        """Note the loss of the step that makes `steps_done` steps in all."""
        self._losses.append(loss.detach())
        self._steps_done = steps_done

    def check(self) -> None:
        """Look at the losses noted since the last check.

        Raises:
            Diverged: one is not finite or far above the first; with the first such step.
        """
        if not self._losses:
            return
        values = torch.stack(self._losses).cpu()
        self._losses.clear()
        if self.first_loss is None:
            self.first_loss = float(values[0])
        # A comparison with nan is false, so nan is bad too.
        is_good = values.isfinite() & (values <= _MOST_TIMES_FIRST * max(1.0, self.first_loss))
        bad = (~is_good).nonzero()
        if len(bad):
            first = int(bad[0])
            step = self._steps_done - len(values) + 1 + first
            raise Diverged(step, self._total, float(values[first]))


def check_weights(model: nn.Module, total: int) -> None:
    """Look at all weights after the last step.

    Raises:
        Diverged: one is not finite; with its name.
    """
    for name, tensor in model.state_dict().items():
        finite = tensor.isfinite()
        if not bool(finite.all()):
            value = float(tensor[~finite].flatten()[0])
            raise Diverged(total, total, value, f"weight {name!r}")
