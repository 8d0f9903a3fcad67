"""Batches of a dataset by index, and a dataset's move to a device."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, default_collate

from stockpot.workloads.protocol import Batch


def take(dataset: Dataset[Any], indices: Tensor) -> Batch:
    """Return the examples of `dataset` at `indices` (N,) as one batch, in that order.

    A `TensorDataset` is indexed directly, on the device where it is; any other dataset is read
    example by example, and its batch is on the CPU.
    """
    if isinstance(dataset, TensorDataset):
        return tuple(
            tensor.index_select(0, indices.to(tensor.device)) for tensor in dataset.tensors
        )
    return tuple(default_collate([dataset[index] for index in indices.tolist()]))


def to_device(dataset: Dataset[Any], device: str) -> Dataset[Any]:
    """Return `dataset` with its tensors on `device`; one that is no `TensorDataset` as it is."""
    if isinstance(dataset, TensorDataset):
        return TensorDataset(*(tensor.to(device) for tensor in dataset.tensors))
    return dataset


def num_examples(dataset: Dataset[Any]) -> int:
    """Return the number of examples of a map-style dataset."""
    return len(cast("TensorDataset", dataset))
