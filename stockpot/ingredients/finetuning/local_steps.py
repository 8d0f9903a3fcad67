"""Local steps of a client: a few steps on its own examples, with corrected gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class LocalSteps:
    """Settings of a client's run, which a run on a whole split does not have.

    Attributes:
        rows: the indices of the client's examples in the split, (N,).
        steps: number of steps, which replaces that of epochs.
        scale: factor on the gradient.
        offset: added to the scaled gradient, by name of the parameter; on any device.
    """

    rows: Tensor
    steps: int
    scale: float = 1.0
    offset: Mapping[str, Tensor] = field(default_factory=dict)

    def correct_(self, model: nn.Module) -> None:
        """Correct the gradients of a model in place, once they are unscaled."""
        for name, parameter in model.named_parameters():
            if parameter.grad is None:
                continue
            if self.scale != 1:
                parameter.grad.mul_(self.scale)
            if name in self.offset:
                parameter.grad.add_(self.offset[name].to(parameter.grad.device))
