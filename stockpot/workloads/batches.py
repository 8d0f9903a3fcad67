"""Batches of a dataset by index, and a dataset's move to a device.

This module alone knows that examples may differ in length: which ones share a batch, so that
little is padded, and in which order batches are passed.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from stockpot.workloads.images.pixels import PixelDataset, as_numbers
from stockpot.workloads.protocol import Batch

_POOL = 50  # batches of an epoch whose examples are sorted by length together
_MOST_TOKENS = 8192  # of a batch without gradients: its activations have to fit into memory


class TokenDataset(TensorDataset):
    """Texts of different lengths, padded to the longest, as tensors.

    Batches of it hold texts of like length; a workload cuts a batch to the longest of its texts.

    Attributes:
        lengths: the number of tokens of each example; (N,), int64, on the CPU.
    """

    def __init__(self, *tensors: Tensor, lengths: Tensor) -> None:
        """Hold token ids (N, T), an attention mask (N, T), whatever else there is, and targets."""
        super().__init__(*tensors)
        self.lengths = lengths


def take(dataset: Dataset[Any], indices: Tensor) -> Batch:
    """Return the examples of `dataset` at `indices` (N,) as one batch, in that order.

    A `TensorDataset` is indexed directly, on the device where it is; any other dataset is read
    example by example, and its batch is on the CPU.
    """
    if isinstance(dataset, PixelDataset):
        images, targets = _selected(dataset, indices)
        return as_numbers(images), targets
    if isinstance(dataset, TensorDataset):
        return _selected(dataset, indices)
    return tuple(default_collate([dataset[index] for index in indices.tolist()]))


def to_device(dataset: Dataset[Any], device: str) -> Dataset[Any]:
    """Return `dataset` with its tensors on `device`; one that is no `TensorDataset` as it is."""
    if not isinstance(dataset, TensorDataset):
        return dataset
    tensors = [tensor.to(device) for tensor in dataset.tensors]
    if isinstance(dataset, TokenDataset):
        return TokenDataset(*tensors, lengths=dataset.lengths)
    return PixelDataset(*tensors) if isinstance(dataset, PixelDataset) else TensorDataset(*tensors)


def subset(dataset: Dataset[Any], indices: Tensor) -> Dataset[Any]:
    """Return the examples of `dataset` at `indices` (N,), in that order, as one of its kind."""
    if not isinstance(dataset, TensorDataset):
        return Subset(dataset, indices.tolist())
    tensors = _selected(dataset, indices)
    if isinstance(dataset, TokenDataset):
        return TokenDataset(*tensors, lengths=dataset.lengths[indices])
    return PixelDataset(*tensors) if isinstance(dataset, PixelDataset) else TensorDataset(*tensors)


def num_examples(dataset: Dataset[Any]) -> int:
    """Return the number of examples of a map-style dataset."""
    return len(cast("TensorDataset", dataset))


def shuffled_batches(
    dataset: Dataset[Any], batch_size: int, generator: Generator
) -> tuple[Tensor, ...]:
    """Return the indices of each batch of an epoch, in a random order.

    Examples of different lengths are shuffled, then sorted by length in pools of 50 batches, and
    the batches shuffled: each holds like lengths, drawn at random.

    Args:
        dataset: N examples.
        batch_size: examples a batch; one batch may be smaller.
        generator: draws the order; on the CPU.

    Returns:
        ceil(N / batch_size) tensors of indices, each index once.
    """
    order = torch.randperm(num_examples(dataset), generator=generator)
    if not isinstance(dataset, TokenDataset):
        return torch.split(order, batch_size)
    pools = [
        pool[dataset.lengths[pool].argsort(stable=True)]
        for pool in torch.split(order, _POOL * batch_size)
    ]
    batches = torch.split(torch.cat(pools), batch_size)
    places = torch.randperm(len(batches), generator=generator)
    return tuple(batches[place] for place in places.tolist())


def batches_by_length(
    dataset: Dataset[Any], indices: Tensor, batch_size: int
) -> tuple[Tensor, ...]:
    """Divide examples into batches for a pass without gradients.

    Examples of different lengths are sorted by length, so `in_order` has to put back what is
    computed of them; all others stay in their order.

    Args:
        dataset: what the examples are of.
        indices: of the examples to pass; (N,).
        batch_size: most examples a batch; fewer where texts are long.

    Returns:
        The indices of each batch.
    """
    if not isinstance(dataset, TokenDataset):
        return torch.split(indices, batch_size)
    lengths, order = dataset.lengths[indices].sort(stable=True)
    starts = [0]
    for place, length in enumerate(lengths.tolist()):
        size = place - starts[-1]
        if size == batch_size or (size and (size + 1) * length > _MOST_TOKENS):
            starts.append(place)
    return torch.tensor_split(indices[order], starts[1:])


def in_order(values: Tensor, batches: tuple[Tensor, ...]) -> Tensor:
    """Return `values` (N, ...), computed batch by batch, in ascending order of the indices."""
    order = torch.cat(batches)
    if torch.equal(order, torch.arange(len(order))):
        return values
    return values[order.argsort().to(values.device)]


def _selected(dataset: TensorDataset, indices: Tensor) -> tuple[Tensor, ...]:
    """Return rows of a data set's tensors, on the device where they are."""
    return tuple(tensor.index_select(0, indices.to(tensor.device)) for tensor in dataset.tensors)
