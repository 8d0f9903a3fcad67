"""Shards of a split: the examples of each client, by label shares or at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.seeding import derive_seed
from stockpot.workloads.batches import num_examples, take
from stockpot.workloads.protocol import Workload

_BATCH = 1024


def split_into_shards(
    labels: Tensor | None, num_rows: int, num_shards: int, concentration: float, seed: int
) -> list[Tensor]:
    """Divide the examples of a split into disjoint shards, none of them empty.

    Each class is divided in shares drawn from a symmetric Dirichlet distribution: the smaller its
    concentration, the fewer classes a shard has. Without labels, examples are divided at random
    into shards of equal size.

    Args:
        labels: the class of each example, (N,), int; None: all are alike.
        num_rows: number of examples, N.
        num_shards: number of shards.
        concentration: of the Dirichlet distribution, above 0.
        seed: of the division.

    Returns:
        The indices of each shard, ascending.

    Raises:
        InputError: there are fewer examples than shards.

    Source: Hsu et al. 2019 (https://arxiv.org/abs/1909.06335), section 3, per class. A shard that
    would be empty gets an example of the largest one.
    """
    if num_shards > num_rows:
        raise InputError(
            f"sweep.rounds: clients must be at most the number of train's examples ({num_rows}), "
            f"got {num_shards}"
        )
    draws = numpy.random.default_rng(derive_seed(seed, "shards"))
    if labels is None:
        pieces = numpy.array_split(draws.permutation(num_rows), num_shards)
        return [torch.from_numpy(piece).sort().values for piece in pieces]
    parts: list[list[int]] = [[] for _ in range(num_shards)]
    classes = labels.numpy()
    for label in numpy.unique(classes):
        rows = draws.permutation(numpy.flatnonzero(classes == label))
        shares = draws.dirichlet([concentration] * num_shards)
        # One random offset per class rounds the ends without a preference for any shard.
        ends = (shares.cumsum()[:-1] * len(rows) + draws.random()).astype(int)
        for part, piece in zip(parts, numpy.split(rows, ends), strict=True):
            part.extend(piece.tolist())
    for part in parts:
        if not part:
            part.append(max(parts, key=len).pop())
    return [torch.tensor(sorted(part)) for part in parts]


def labels_of(workload: Workload, split: str) -> Tensor | None:
    """Return the class of each example of a split, (N,); None if the task has no classes."""
    if workload.task != "classification":
        return None
    dataset = workload.dataset(split)
    rows = torch.arange(num_examples(dataset))
    return torch.cat([take(dataset, batch)[-1].cpu() for batch in torch.split(rows, _BATCH)])


def class_counts(labels: Tensor | None, shards: Sequence[Tensor]) -> list[dict[str, int]]:
    """Return the number of examples of each class in each shard; empty without labels."""
    if labels is None:
        return []
    counted = [numpy.unique(labels[shard].numpy(), return_counts=True) for shard in shards]
    return [
        {str(label): number for label, number in zip(found.tolist(), of.tolist(), strict=True)}
        for found, of in counted
    ]
