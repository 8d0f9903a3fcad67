"""Inner products in float64, computed block by block without a copy of a whole tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stockpot.merging.measurements import depends_on
from stockpot.merging.runs import Runs

_BLOCK = 2**16  # entries; blocks of a few models in float64 fit into the cache


def gram(tensors: Sequence[Tensor]) -> Tensor:
    """Return the inner products of M tensors of one shape, each taken as a vector.

    Returns:
        A matrix (M, M), float64.
    """
    return gram_of_runs(Runs.of(tensors))


def task_vector_gram(states: Sequence[Mapping[str, Tensor]], base: Mapping[str, Tensor]) -> Tensor:
    """Return the inner products of the task vectors of M models, over all their weights.

    Without BatchNorm statistics and integers.

    Args:
        states: M state dicts with the base's names and shapes; at least one.
        base: the model that they were fine-tuned from.

    Returns:
        A matrix (M, M), float64, on the CPU.
    """
    total = torch.zeros(len(states), len(states), dtype=torch.float64)
    for name in weight_names(base):
        wide = torch.promote_types(base[name].dtype, torch.float32)
        tensors = [state[name].to(wide) for state in states]
        total += gram_of_runs(Runs.of(tensors, base[name].to(wide))).cpu()
    return total


def weight_names(state: Mapping[str, Tensor]) -> list[str]:
    """List the tensors that are weights: neither integers nor BatchNorm statistics."""
    statistics = ("running_mean", "running_var")
    return [
        name
        for name, tensor in state.items()
        if tensor.is_floating_point() and not name.endswith(statistics)
    ]


def cosines_of(gram: Tensor) -> Tensor:
    """Return the cosines (M, M) between vectors, from their inner products.

    Cosines of a zero vector with others are 0; those of each vector with itself are 1.
    """
    norms = gram.diagonal().clamp(min=0).sqrt()
    scale = torch.outer(norms, norms)
    symmetric = (gram + gram.T) / 2  # sums in blocks may differ in their last bits
    cosines = torch.where(scale > 0, symmetric / scale.where(scale > 0, 1), 0).clamp(-1, 1)
    return cosines.fill_diagonal_(1)


@depends_on()
def gram_of_runs(runs: Runs, *_: object) -> Tensor:
    """Return the inner products of M models' task vectors; without a base, of the models.

    Returns:
        A matrix (M, M), float64.
    """
    products = list(runs.map(lambda run: _gram(run.vectors)))
    total = torch.zeros(runs.num_models, runs.num_models, dtype=torch.float64)
    for of_run in products:
        total = total.to(of_run.device) + of_run
    return total


def _gram(rows: Sequence[Tensor]) -> Tensor:
    size = rows[0].numel()
    products = rows[0].new_zeros((len(rows), len(rows)), dtype=torch.float64)
    spare = products.new_empty((len(rows), min(size, _BLOCK)))  # new memory takes longer
    for start in range(0, size, _BLOCK):
        block = spare[:, : size - start]
        for own, row in zip(block, rows, strict=True):
            own.copy_(row[start : start + _BLOCK])
        products += block @ block.T
    return products


def row_dots(first: Tensor, second: Tensor) -> Tensor:
    """Return the inner product of each row of a matrix (R, C) with that row of another.

    Returns:
        A vector (R,), float64.
    """
    num_rows = max(1, _BLOCK // max(1, first.shape[1]))
    blocks = zip(torch.split(first, num_rows), torch.split(second, num_rows), strict=True)
    return torch.cat([(ours.double() * theirs).sum(dim=1) for ours, theirs in blocks])
