"""Batches of a dataset by index, and moving a dataset to a device.

Only this module handles examples of different lengths: which ones share a batch, to avoid padding,
and in which order batches are processed.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from stockpot.workloads.images.pixels import PixelDataset, as_numbers
from stockpot.workloads.protocol import Batch

_POOL = 50  # batches of an epoch whose examples are sorted by length together


class _Tokens(NamedTuple):
    """Numbers of tokens of a batch without gradients.

    Attributes:
        most: in a batch; a CPU is fastest if activations fit into its caches, and in the memory of
            an accelerator they must fit.
        overhead: as many take as long as a batch that is begun, with 22 M parameters.
    """

    most: int
    overhead: int


_ON_CPU, _ON_ACCELERATOR = _Tokens(1024, 32), _Tokens(8192, 8192)


class TokenDataset(TensorDataset):
    """Texts of different lengths, padded to the longest, as tensors.

    Its batches hold texts of similar length; workloads cut a batch to its longest text.

    Attributes:
        lengths: the number of tokens of each example; (N,), int64, on the CPU.
    """

    def __init__(self, *tensors: Tensor, lengths: Tensor) -> None:
        """Hold token ids (N, T), an attention mask (N, T), further inputs, and targets."""
        super().__init__(*tensors)
        self.lengths = lengths


def take(dataset: Dataset[Any], indices: Tensor) -> Batch:
    """Return the examples of `dataset` at `indices` (N,) as one batch, in that order.

    A `TensorDataset` is indexed directly, on its device; any other dataset is read
    example by example, and its batch is on the CPU.
    """
    if isinstance(dataset, PixelDataset):
        images, targets = _selected(dataset, indices)
        return as_numbers(images), targets
    if isinstance(dataset, TensorDataset):
        return _selected(dataset, indices)
    return tuple(default_collate([dataset[index] for index in indices.tolist()]))


def to_device(dataset: Dataset[Any], device: str) -> Dataset[Any]:
    """Move the tensors of a `TensorDataset` to `device`; return other datasets as they are."""
    if not isinstance(dataset, TensorDataset):
        return dataset
    tensors = [tensor.to(device) for tensor in dataset.tensors]
    if isinstance(dataset, TokenDataset):
        return TokenDataset(*tensors, lengths=dataset.lengths)
    return PixelDataset(*tensors) if isinstance(dataset, PixelDataset) else TensorDataset(*tensors)


def subset(dataset: Dataset[Any], indices: Tensor) -> Dataset[Any]:
    """Return the examples of `dataset` at `indices` (N,), in that order, as a dataset."""
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

    Examples of different lengths are shuffled, sorted by length within pools of 50 batches, and
    the batches are shuffled, so that each holds random examples of similar length.

    Args:
        dataset: N examples.
        batch_size: examples per batch; one batch may be smaller.
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
    dataset: Dataset[Any], indices: Tensor, batch_size: int, device: str = "cpu"
) -> tuple[Tensor, ...]:
    """Divide examples into batches for a pass without gradients.

    Examples of different lengths are sorted by length, so `in_order` must restore the order of the
    results; others are not reordered. A batch ends where further examples would add more padding
    than is worth a batch less.

    Args:
        dataset: the dataset.
        indices: indices of the examples; (N,).
        batch_size: most examples per batch; fewer for long texts.
        device: where the pass runs.

    Returns:
        The indices of each batch.
    """
    if not isinstance(dataset, TokenDataset):
        return torch.split(indices, batch_size)
    limits = _ON_CPU if torch.device(device).type == "cpu" else _ON_ACCELERATOR
    lengths, order = dataset.lengths[indices].sort(stable=True)
    starts, tokens = [0], 0  # tokens of the batch without padding
    for place, length in enumerate(lengths.tolist()):
        size = place - starts[-1]
        padded = (size + 1) * length
        padding = padded - tokens - length
        is_full = size == batch_size or padded > limits.most
        if size and (is_full or padding > limits.overhead):
            starts.append(place)
            tokens = 0
        tokens += length
    return torch.tensor_split(indices[order], starts[1:])


def in_order(values: Tensor, batches: tuple[Tensor, ...]) -> Tensor:
    """Return `values` (N, ...), computed batch by batch, in ascending order of the indices."""
    order = torch.cat(batches)
    if torch.equal(order, torch.arange(len(order))):
        return values
    return values[order.argsort().to(values.device)]


def _selected(dataset: TensorDataset, indices: Tensor) -> tuple[Tensor, ...]:
    """Return rows of a dataset's tensors, on their device."""
    return tuple(tensor.index_select(0, indices.to(tensor.device)) for tensor in dataset.tensors)
