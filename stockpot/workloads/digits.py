"""The digits workload: 8 x 8 images of handwritten digits, shipped with scikit-learn.

Importing this module, building a `Digits` and asking for its digest import no torch.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from stockpot.errors import InputError, unknown_name
from stockpot.seeding import seeded_generator
from stockpot.workloads.chosen_shifts import CORRUPTION_NAMES, split_of_shifts
from stockpot.workloads.classification import accuracy, cross_entropies
from stockpot.workloads.protocol import Batch, Metric, Shift, Task

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn
    from torch.utils.data import TensorDataset

_SIZES: Mapping[str, int] = MappingProxyType(
    {"pretrain": 300, "train": 700, "val": 400, "test": 397}
)
_NUM_CLASSES = 10
_VERSION = 1  # raise it when the splits or the corruptions change: it is part of the digest


class Digits:
    """1797 images in ten classes, split by the seed, with seven corruptions as shifts.

    Args:
        seed: fixes the splits and the shifted copies.
        val_shifts: corruptions applied to `val`.
        test_shifts: corruptions applied to `test`; disjoint from `val_shifts`.

    Raises:
        InputError: a shift is unknown or named twice.
    """

    shift_names: ClassVar[tuple[str, ...]] = CORRUPTION_NAMES
    task: Task = "classification"
    metrics: Mapping[str, Metric]

    def __init__(self, seed: int, val_shifts: Sequence[str], test_shifts: Sequence[str]) -> None:
        self.metrics = MappingProxyType({"accuracy": accuracy})
        self._seed = seed
        self._shift_splits = split_of_shifts("digits", val_shifts, test_shifts, self.shift_names)
        self._datasets: dict[str, TensorDataset] = {}

    def data_digest(self) -> str:
        """Return the SHA-256 (hex) of the data file, the seed and the sizes of the splits."""
        described = {"seed": self._seed, "sizes": dict(_SIZES), "version": _VERSION}
        digest = hashlib.sha256(_data_file().read_bytes())
        digest.update(json.dumps(described, sort_keys=True).encode())
        return digest.hexdigest()

    def build_model(self, generator: Generator) -> nn.Module:
        """Build the conv net, initialised from `generator` alone."""
        from stockpot.workloads.images.conv_net import build_conv_net

        return build_conv_net(_NUM_CLASSES, generator)

    def dataset(self, split: str) -> TensorDataset:
        """Return images (N, 1, 8, 8), float32 in [0, 1], and targets (N,) of a split.

        Raises:
            InputError: there is no such split.
        """
        if split not in _SIZES:
            raise unknown_name("split of the digits workload", split, _SIZES)
        if not self._datasets:
            self._datasets = _split(self._seed)
        return self._datasets[split]

    def shifts(self) -> Mapping[str, Shift]:
        """Return the chosen shifts; each copy depends on the seed and its name alone."""
        return {
            name: Shift(split, partial(self._shifted, name, split))
            for name, split in self._shift_splits.items()
        }

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:
        """Rotate, scale and translate each image at random, and add noise.

        At strength 1: up to 20 degrees, 15 percent and 1 pixel, with noise of 0.15.
        """
        if strength == 0:
            return batch
        import torch

        from stockpot.workloads.images.corruptions import transform

        images, targets = batch
        # Drawn on the CPU, so that every device sees the same bits.
        drawn = strength * (2 * torch.rand(4, len(images), generator=generator) - 1)
        degrees, zoom, right, down = drawn.to(images.device)
        moved = transform(
            images, degrees=20 * degrees, zoom=1 + 0.15 * zoom, right=right, down=down
        )
        drawn_noise = torch.randn(images.shape, generator=generator).to(images.device)
        return (moved + 0.15 * strength * drawn_noise).clamp(0, 1), targets

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits; (N, 10)."""
        logits: Tensor = model(batch[0])
        return logits

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the cross entropy of each example; (N,)."""
        return cross_entropies(outputs, batch[-1], label_smoothing)

    def _shifted(self, name: str, split: str) -> TensorDataset:
        """Return the copy of `split` under the corruption `name`."""
        from torch.utils.data import TensorDataset

        from stockpot.workloads.images.corruptions import CORRUPTIONS

        images, targets = self.dataset(split).tensors
        generator = seeded_generator(self._seed, "digits shift", name)
        return TensorDataset(CORRUPTIONS[name](images, generator), targets)


def _data_file() -> Path:
    """Find the data file of scikit-learn without importing it."""
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise InputError("digits: needs scikit-learn's data, got no scikit-learn; install it")
    return Path(found.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"


def _split(seed: int) -> dict[str, TensorDataset]:
    """Read all images and split them by a random permutation."""
    import numpy
    import torch
    from torch.utils.data import TensorDataset

    with gzip.open(_data_file(), "rt", encoding="ascii") as file:
        table = torch.from_numpy(numpy.loadtxt(file, delimiter=",", dtype=numpy.float32))
    images = (table[:, :-1] / 16).view(-1, 1, 8, 8)  # pixels are 0 to 16
    targets = table[:, -1].long()
    order = torch.randperm(len(table), generator=seeded_generator(seed, "digits split"))
    parts = torch.split(order, list(_SIZES.values()))
    return {
        name: TensorDataset(images[part], targets[part])
        for name, part in zip(_SIZES, parts, strict=True)
    }
