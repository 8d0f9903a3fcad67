"""Batches of a dataset that stay on a device for many forward passes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from stockpot.workloads.batches import num_examples, take, to_device
from stockpot.workloads.images.pixels import PixelDataset, as_numbers
from stockpot.workloads.protocol import Batch

_FRACTION = 1 / 16  # of the machine's memory, for examples that are read one by one
_READ = 256  # examples at once


class ResidentBatches:
    """The batches of a dataset, on a device; each pass gets copies, which it may change.

    A `TensorDataset` is put into the order of its batches once, so that no pass gathers examples.
    Other datasets are read once and become one, if they fit into a sixteenth of the machine's
    memory; otherwise they are read in each pass.

    Attributes:
        dataset: the dataset on the device, in its own order.
    """

    def __init__(self, dataset: Dataset[Any], batches: Sequence[Tensor], device: str) -> None:
        """Read the dataset.

        Args:
            dataset: N examples.
            batches: the indices of each batch, each index once.
            device: where the batches are.
        """
        self._indices, self._device = batches, device
        self.dataset = to_device(_in_memory(dataset), device)
        self._views: list[Batch] | None = None
        if isinstance(self.dataset, TensorDataset):
            self._views = _views(self.dataset, batches)

    @property
    def nbytes(self) -> int:
        """The memory of the batches."""
        return sum(tensor.nbytes for batch in self._views or () for tensor in batch)

    def __iter__(self) -> Iterator[Batch]:
        """Yield each batch."""
        return map(self.__getitem__, range(len(self)))

    def __len__(self) -> int:
        """The number of batches."""
        return len(self._indices)

    def __getitem__(self, place: int) -> Batch:
        """Return one batch; the places are 0 to `len(self)` - 1."""
        if self._views is None:
            return self.take(self._indices[place])
        if isinstance(self.dataset, PixelDataset):  # bytes take a quarter of the memory
            images, targets = self._views[place]
            return as_numbers(images), targets.clone()
        return tuple(tensor.clone() for tensor in self._views[place])

    def take(self, indices: Tensor) -> Batch:
        """Return any examples as a batch, by their indices in the dataset."""
        return tuple(tensor.to(self._device) for tensor in take(self.dataset, indices))


def _in_memory(dataset: Dataset[Any]) -> Dataset[Any]:
    """Return a dataset as tensors, unless they are too large or of different shapes."""
    if isinstance(dataset, TensorDataset):
        return dataset
    most = _FRACTION * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    read: list[Batch] = []
    for indices in torch.split(torch.arange(num_examples(dataset)), _READ):
        read.append(take(dataset, indices))
        most -= sum(tensor.nbytes for tensor in read[-1])
        has_other_shapes = any(
            new.shape[1:] != old.shape[1:] for new, old in zip(read[-1], read[0], strict=True)
        )
        if most < 0 or has_other_shapes:
            return dataset
    return TensorDataset(*(torch.cat(parts) for parts in zip(*read, strict=True)))


def _views(dataset: TensorDataset, batches: Sequence[Tensor]) -> list[Batch]:
    """Return batches as views of the tensors, which are copied if their order differs."""
    order, tensors = torch.cat(list(batches)), dataset.tensors
    if not torch.equal(order, torch.arange(len(tensors[0]))):
        tensors = tuple(tensor[order.to(tensor.device)] for tensor in tensors)
    sizes = [len(indices) for indices in batches]
    return list(zip(*(torch.split(tensor, sizes) for tensor in tensors), strict=True))
