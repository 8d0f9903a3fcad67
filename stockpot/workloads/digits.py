"""The digits workload: 8 x 8 images of handwritten digits, shipped with scikit-learn.

Importing this module, building a `Digits` and asking for its digest import no torch.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from stockpot.errors import InputError, unknown_name
from stockpot.storage.digests import file_digest
from stockpot.workloads.files import digest_of
from stockpot.workloads.images.image_workload import ImageWorkload
from stockpot.workloads.protocol import Batch

if TYPE_CHECKING:
    from torch import Generator, nn
    from torch.utils.data import TensorDataset

_SIZES: Mapping[str, int] = MappingProxyType(
    {"pretrain": 300, "train": 700, "val": 400, "test": 397}
)
_NUM_CLASSES = 10
_VERSION = 1  # raise it when the splits or the corruptions change: it is part of the digest


class Digits(ImageWorkload):
    """1797 images in ten classes, split by the seed, with seven corruptions as shifts.

    Args:
        seed: fixes the splits and the shifted copies.
        val_shifts: corruptions applied to `val`.
        test_shifts: corruptions applied to `test`; disjoint from `val_shifts`.
        classes: first and last class of train, val and test, e.g. `0-4`, for a task of a sequence;
            empty for all. `pretrain` has all classes.

    Raises:
        InputError: a shift is unknown or named twice, or the classes are not two digits.
    """

    name = "digits"

    def __init__(
        self,
        seed: int,
        val_shifts: Sequence[str],
        test_shifts: Sequence[str],
        *,
        classes: str = "",
    ) -> None:
        super().__init__(seed, val_shifts, test_shifts)
        if classes and not (re.fullmatch("[0-9]-[0-9]", classes) and classes[0] < classes[2]):
            raise InputError(
                f"workload.options.classes: must be first-last, such as '0-4', got {classes!r}"
            )
        self._classes = (int(classes[0]), int(classes[2])) if classes else None

    def data_digest(self) -> str:
        """Return the SHA-256 (hex) of the data file, the seed and the sizes of the splits."""
        file = file_digest(_data_file())
        classes = {"classes": self._classes} if self._classes else {}
        sizes = dict(_SIZES)
        return digest_of(file=file, seed=self._seed, sizes=sizes, version=_VERSION, **classes)

    def build_model(self, generator: Generator) -> nn.Module:
        """Build the conv net of 37 000 parameters, initialised from `generator` alone."""
        from stockpot.workloads.images.conv_net import ConvNet
        from stockpot.workloads.initialisation import initialised

        return initialised(lambda: ConvNet(_NUM_CLASSES), generator)

    def dataset(self, split: str) -> TensorDataset:
        """Return images (N, 1, 8, 8), float32 in [0, 1], and targets (N,) of a split.

        Raises:
            InputError: there is no such split.
        """
        if split not in _SIZES:
            raise unknown_name("split of the digits workload", split, _SIZES)
        return self._splits[split]

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

    @cached_property
    def _splits(self) -> dict[str, TensorDataset]:
        """All images, by split."""
        import numpy
        import torch
        from torch.utils.data import TensorDataset

        table = torch.from_numpy(numpy.loadtxt(_data_file(), delimiter=",", dtype=numpy.float32))
        images = (table[:, :-1] / 16).view(-1, 1, 8, 8)  # pixels are 0 to 16
        targets = table[:, -1].long()
        parts = self._divided(len(table), _SIZES)
        if self._classes:
            first, last = self._classes
            chosen = (targets >= first) & (targets <= last)
            for name in ("train", "val", "test"):
                parts[name] = parts[name][chosen[parts[name]]]
        return {n: TensorDataset(images[part], targets[part]) for n, part in parts.items()}


@cache  # a search of all import paths
def _data_file() -> Path:
    """Find the data file of scikit-learn without importing it."""
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise InputError("digits: needs scikit-learn's data, got no scikit-learn; install it")
    return Path(found.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
