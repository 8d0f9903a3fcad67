"""The blocks of val in which candidates are evaluated, those that tell them apart first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.scoring.predictions import load_outputs, load_targets, predict
from stockpot.seeding import seeded_generator
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

_FIRST = 32  # examples; in smaller batches, a forward pass costs as much per batch
_LARGEST = 1024  # examples; a larger batch is not faster


def hardest_first(
    root: Path, workload: WorkloadSpec, models: Sequence[Model], device: str
) -> list[Tensor]:
    """Return blocks of val, those examples first on which the models have the lowest values.

    They depend on the weights of the models and on val alone, so a resumed choice has the same.

    Args:
        root: the project root, with cached predictions; missing ones are computed.
        workload: its val split and first metric.
        models: the models to choose from.
        device: where missing predictions are computed.
    """
    compute = next(iter(workload.build().metrics.values()))
    outputs = [_outputs(root, workload, model, device) for model in models]
    targets = load_targets(root, workload, "val")
    rows = [compute(own, targets).double() for own in outputs]
    return in_blocks(torch.stack(rows).sum(dim=0).argsort(stable=True))


def _outputs(root: Path, workload: WorkloadSpec, model: Model, device: str) -> Tensor:
    """Return a model's outputs on val; cached ones are read once."""
    try:
        return load_outputs(root, workload, model.digest, "val")
    except InputError:
        predict(root, workload, model.checkpoint, device, ["val"])
        return load_outputs(root, workload, model.digest, "val")


def in_random_order(size: int, seed: int) -> list[Tensor]:
    """Return blocks of random examples."""
    return in_blocks(torch.randperm(size, generator=seeded_generator(seed, "random val")))


def in_blocks(order: Tensor) -> list[Tensor]:
    """Divide an order of examples (N,) into blocks; each doubles the number of examples so far.

    So at most twice as many examples are evaluated as needed, and whole evaluations have few
    passes. The examples of a block are in ascending order.
    """
    ends, size = [], len(order)
    end = _FIRST
    while end < size:
        ends.append(end)
        end += min(end, _LARGEST)
    return [block.sort().values for block in torch.tensor_split(order, ends)]
