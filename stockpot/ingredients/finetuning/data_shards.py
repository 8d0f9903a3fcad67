"""Training on one part of the data: ingredients of disjoint shards."""

from __future__ import annotations

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters


def shard_rows(num_examples: int, how: Hyperparameters) -> Tensor:
    """Return the indices of the examples that a run trains on, before any are left out; (N,).

    Shards are consecutive, in the order of the split, and their sizes differ by at most one.

    Raises:
        InputError: there are fewer examples than shards.
    """
    if how.shards > num_examples:
        raise InputError(
            f"shards: must be at most the number of examples, {num_examples}, got {how.shards}"
        )
    return torch.tensor_split(torch.arange(num_examples), how.shards)[how.shard - 1]
