"""Forward passes whose batches idle workers compute too, with the bits of one process.

A pass over many batches is divided among the worker that needs it and all that are idle. So
whatever scores one model after another (a check, a search, a diagnostic) uses all cores, and
decides as it would alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from stockpot.scoring.shared_weights import SentTensor, SharedWeights, shared_weights
from stockpot.workers.inside import idle_workers, share
from stockpot.workloads.passes import BatchResult, Examples, empty_model, put_weights
from stockpot.workloads.spec import WorkloadSpec

Sent: TypeAlias = tuple[SentTensor, SentTensor]
OpenSet: TypeAlias = Callable[[WorkloadSpec, str, str], Examples]
"""(workload, set name, device) -> examples."""

_WORTH_SECONDS = 0.25  # of the batches that are left; sending 100 MB of weights takes 0.05 s


@dataclass(frozen=True, slots=True)
class SharedSet:
    """A set that other workers can open.

    Attributes:
        workload: the workload of the set.
        name: of the set.
        open_set: opens it in another process.
    """

    workload: WorkloadSpec
    name: str
    open_set: OpenSet

    def outputs_and_losses(self, examples: Examples, model: nn.Module) -> tuple[Tensor, Tensor]:
        """Return outputs (N, C) and losses (N,), computed by this worker and all idle ones.

        Args:
            examples: the set.
            model: in eval mode, on the device of the examples.
        """
        return examples.outputs_and_losses(model, partial(self._map_batches, model))

    def _map_batches(
        self, model: nn.Module, compute: Callable[[int], BatchResult], places: range
    ) -> Iterable[BatchResult]:
        start = time.perf_counter()
        first = compute(places[0])
        seconds, rest = time.perf_counter() - start, places[1:]
        if seconds * len(rest) < _WORTH_SECONDS or not idle_workers():
            return [first, *map(compute, rest)]
        with shared_weights(model.state_dict()) as weights:
            results = share(rest, compute, partial(_of_batch, self, weights))
        return [first, *(_on(first[0].device, result) for result in results)]


def _of_batch(of: SharedSet, weights: SharedWeights, place: int, device: str) -> Sent:
    """Compute one batch for another worker; runs in a worker process."""
    examples = of.open_set(of.workload, of.name, device)
    model = _model(of.workload, device)
    put_weights(model, _weights(weights, device))
    outputs, losses = examples.of_batch(model, place)
    return SentTensor.of(outputs), SentTensor.of(losses)


@lru_cache(maxsize=1)
def _model(workload: WorkloadSpec, device: str) -> nn.Module:
    return empty_model(workload.build(), device)


@lru_cache(maxsize=1)
def _weights(weights: SharedWeights, device: str) -> dict[str, Tensor]:
    """Map the weights of a pass, once for all of its batches."""
    return {name: tensor.to(device) for name, tensor in weights.read().items()}


def _on(device: torch.device, result: BatchResult | Sent) -> BatchResult:
    outputs, losses = (r.on(device) if isinstance(r, SentTensor) else r for r in result)
    return outputs, losses
