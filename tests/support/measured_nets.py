"""Nets on the toy workload, measured by a preparation."""

from __future__ import annotations

from collections.abc import Callable

from torch import Generator, Tensor, nn
from toy_workload import Toy

from stockpot.soups.preparation.protocol import Preparation


class Built(Toy):
    """The toy workload with another model."""

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        super().__init__(seed=0, val_shifts=[], test_shifts=[], closed="val")
        self._build = build

    def build_model(self, generator: Generator) -> nn.Module:  # noqa: ARG002 (the protocol's)
        return self._build()


def measure(preparation: Preparation, model: nn.Module) -> dict[str, Tensor]:
    """Compute the statistics of a net with its present weights."""
    workload = Built(lambda: model)
    return preparation.compute(workload, model.state_dict(), seed=0, device="cpu")


def points() -> Tensor:
    """Return the inputs of train, (8, 2), float64."""
    drawn: Tensor = Built(nn.Identity).dataset("train").tensors[0]
    return drawn.double()
