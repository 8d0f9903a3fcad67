"""REPAIR of weighted averages of a workload's nets, on examples of train."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from stockpot.merging.states import State
from stockpot.soups.alignment.repair import Statistics, channel_statistics, repair_to
from stockpot.soups.preparation.train_examples import train_batches
from stockpot.workloads.passes import empty_model

if TYPE_CHECKING:
    from torch import nn

    from stockpot.workloads.protocol import Batch, Workload

_EXAMPLES = 512  # of train, the same for all merges


class Repair:
    """Repairs averages of aligned nets; statistics of nets that are averaged often are cached."""

    def __init__(self, workload: Workload, device: str, nets: Sequence[State]) -> None:
        """Prepare the repair; nothing is measured yet.

        Args:
            workload: its train split is used, without augmentation and labels.
            device: where forward passes run.
            nets: the weights of aligned nets, of which each is measured once.
        """
        self._workload = workload
        self._device = device
        self._nets = list(nets)
        self._measured: dict[int, Statistics] = {}  # by position in `nets`

    def __call__(
        self, merged: State, parents: Sequence[State], coefficients: Sequence[float]
    ) -> dict[str, Tensor]:
        """Return the weights of the repaired net, on their devices.

        Args:
            merged: the average.
            parents: the nets that it was averaged from.
            coefficients: one per parent, at least 0.

        Raises:
            InputError: the net cannot be repaired; see `repair`.
        """
        statistics = [self._statistics(parent) for parent in parents]
        forward = self._workload.forward
        repaired = repair_to(self._model, statistics, coefficients, merged, forward, self._batches)
        return {name: repaired[name].to(tensor.device) for name, tensor in merged.items()}

    def _statistics(self, net: State) -> Statistics:
        place = next((n for n, known in enumerate(self._nets) if known is net), None)
        if place is None:
            return self._measure(net)
        if place not in self._measured:
            self._measured[place] = self._measure(net)
        return self._measured[place]

    def _measure(self, net: State) -> Statistics:
        return channel_statistics(self._model, net, self._workload.forward, self._batches)

    @cached_property
    def _model(self) -> nn.Module:
        return empty_model(self._workload, self._device)

    @cached_property
    def _batches(self) -> list[Batch]:
        return list(train_batches(self._workload, _EXAMPLES, seed=0, device=self._device))
