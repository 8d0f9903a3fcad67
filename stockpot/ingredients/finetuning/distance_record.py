"""The distance of a run's weights from its start, at steps that are even in their logarithm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

_STEPS = frozenset(math.ceil(2 ** (half / 2)) for half in range(100))  # 1, 2, 3, 4, 6, 8, 12, ...


class DistanceRecord:
    """Distances at steps 1, 2, 3, 4, 6, 8, 12, ... and at the last: some 30 in 50,000 steps.

    Hoffer et al. 2017 (https://arxiv.org/abs/1705.08741), section 3.
    """

    def __init__(
        self,
        names: Iterable[str],
        initial: Mapping[str, Tensor],
        given: Mapping[str, Tensor] | None,
    ) -> None:
        """Hold the weights before the first step, on the CPU.

        Args:
            names: of the parameters, without buffers.
            initial: the weights, by name.
            given: weights on the CPU that the run was given; those that are equal are not copied.
        """
        self._start = {
            name: _held(initial[name].detach().cpu(), (given or {}).get(name)) for name in names
        }
        self._steps: list[int] = []
        self._distances: list[float] = []

    @staticmethod
    def is_due(steps_done: int, total: int) -> bool:
        """Return whether the distance after these steps is recorded."""
        return steps_done in _STEPS or steps_done == total

    def add(self, steps_done: int, weights: Mapping[str, Tensor]) -> None:
        """Record the Euclidean distance of all parameters."""
        squares = 0.0
        for name, start in self._start.items():
            gap = weights[name].detach().cpu() - start
            squares += float(torch.linalg.vector_norm(gap, dtype=torch.float64)) ** 2
        self._steps.append(steps_done)
        self._distances.append(math.sqrt(squares))

    @property
    def pairs(self) -> list[tuple[int, float]]:
        """The steps done and the distance, in order."""
        return [*zip(self._steps, self._distances, strict=True)]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state."""
        distances = torch.tensor(self._distances, dtype=torch.float64)
        return {"steps": torch.tensor(self._steps, dtype=torch.int64), "distances": distances}

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Restore the state."""
        self._steps = state_dict["steps"].tolist()
        self._distances = state_dict["distances"].tolist()


def _held(tensor: Tensor, given: Tensor | None) -> Tensor:
    if given is not None and given.dtype == tensor.dtype and torch.equal(given, tensor):
        return given
    return tensor.clone()
