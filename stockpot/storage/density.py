"""The density of a model: how many of its weights are not 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def density_of(tensors: Mapping[str, Tensor]) -> float:
    """Return the fraction of entries that are not 0, of the weights of layers.

    Biases, scales of norms and other vectors do not count, since they are not pruned. 1 without
    such weights.
    """
    weights = [
        tensor
        for name, tensor in tensors.items()
        if name.rpartition(".")[2] == "weight" and tensor.ndim >= 2
    ]
    total = sum(weight.numel() for weight in weights)
    return sum(int(weight.count_nonzero()) for weight in weights) / total if total else 1.0
