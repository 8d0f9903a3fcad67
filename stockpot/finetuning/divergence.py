"""Runs whose loss or weights stop being finite."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Diverged(RuntimeError):
    """A fine-tuning run came to a loss or a weight that is not finite.

    Attributes:
        step: the step at which it was seen, counted from 1.
        total: the number of steps of the whole run.
        value: the value, inf, -inf or nan.
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
        return f"{self.quantity} became {self.value} at step {self.step} of {self.total}"


class LossWatch:
    """Collects losses on their device and checks them many at a time, so that no step waits."""

    def __init__(self, total: int) -> None:
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
            Diverged: one is not finite; with the first such step.
        """
        if not self._losses:
            return
        values = torch.stack(self._losses).cpu()
        self._losses.clear()
        bad = (~values.isfinite()).nonzero()
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
