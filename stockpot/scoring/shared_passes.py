"""Forward passes whose batches idle workers compute too, with the bits of one process.

A pass over many batches is divided among the worker that needs it and all that are idle. So
whatever scores one model after another (a check, a search, a diagnostic) uses all cores, and
decides as it would alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from stockpot.scoring.shared_weights import SentTensor, SharedWeights, shared_weights
from stockpot.workers.inside import idle_workers, share
from stockpot.workloads.passes import BatchResult, Examples, empty_model, put_weights
from stockpot.workloads.spec import WorkloadSpec

R = TypeVar("R")
S = TypeVar("S")

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

        def map_batches(
            compute: Callable[[int], BatchResult], places: range
        ) -> Iterable[BatchResult]:
            done = self._map(model, compute, places, _of_batch)
            return [(_on(examples, outputs), _on(examples, losses)) for outputs, losses in done]

        return examples.outputs_and_losses(model, map_batches)

    def outputs_of(self, examples: Examples, model: nn.Module, indices: Tensor) -> Tensor:
        """Return outputs (n, C) for the examples at `indices` (n,), ascending, in the same way."""

        def map_parts(
            compute: Callable[[Tensor], Tensor], parts: Sequence[Tensor]
        ) -> Iterable[Tensor]:
            elsewhere = partial(_of_part, [part.tolist() for part in parts])
            done = self._map(model, lambda at: compute(parts[at]), range(len(parts)), elsewhere)
            return [_on(examples, outputs) for outputs in done]

        return examples.outputs_of(model, indices, map_parts)

    def _map(
        self,
        model: nn.Module,
        compute: Callable[[int], R],
        places: range,
        elsewhere: Callable[[SharedSet, SharedWeights, int, str], S],
    ) -> list[R | S]:
        start = time.perf_counter()
        first = compute(places[0])
        seconds, rest = time.perf_counter() - start, places[1:]
        if seconds * len(rest) < _WORTH_SECONDS or not idle_workers():
            return [first, *map(compute, rest)]
        with shared_weights(model.state_dict()) as weights:
            return [first, *share(rest, compute, partial(elsewhere, self, weights))]

    def opened(self, weights: SharedWeights, device: str) -> tuple[Examples, nn.Module]:
        """Return the set and the model with these weights, in another worker process."""
        model = _model(self.workload, device)
        put_weights(model, _weights(weights, device))
        return self.open_set(self.workload, self.name, device), model


def _of_batch(
    of: SharedSet, weights: SharedWeights, place: int, device: str
) -> tuple[SentTensor, SentTensor]:
    """Compute one batch for another worker; runs in a worker process."""
    examples, model = of.opened(weights, device)
    outputs, losses = examples.of_batch(model, place)
    return SentTensor.of(outputs), SentTensor.of(losses)


def _of_part(
    parts: Sequence[Sequence[int]], of: SharedSet, weights: SharedWeights, place: int, device: str
) -> SentTensor:
    """Compute the outputs for some examples for another worker; runs in a worker process."""
    examples, model = of.opened(weights, device)
    return SentTensor.of(examples.outputs_of_part(model, torch.tensor(parts[place])))


@lru_cache(maxsize=1)
def _model(workload: WorkloadSpec, device: str) -> nn.Module:
    return empty_model(workload.build(), device)


@lru_cache(maxsize=1)
def _weights(weights: SharedWeights, device: str) -> dict[str, Tensor]:
    """Map the weights of a pass, once for all of its batches."""
    return {name: tensor.to(device) for name, tensor in weights.read().items()}


def _on(examples: Examples, result: Tensor | SentTensor) -> Tensor:
    return result.on(examples.targets.device) if isinstance(result, SentTensor) else result
