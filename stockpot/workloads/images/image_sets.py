"""Datasets of image files, read lazily or all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stockpot.seeding import seeded_generator
from stockpot.workloads.images.corruptions import CORRUPTIONS
from stockpot.workloads.images.image_files import read_pixels
from stockpot.workloads.images.pixels import PixelDataset, as_bytes, as_numbers


@dataclass(frozen=True)
class LazyImages(Dataset[tuple[Tensor, Tensor]]):
    """Images that are read, and corrupted, on each access.

    Attributes:
        paths: the files; N.
        targets: the classes; N.
        side: height and width of the images, in pixels.
        colour: whether images have three channels or one.
        corruption: the name of a corruption; None for none.
        seed: random numbers of a corruption depend on it, the name and the image's index only.
    """

    paths: Sequence[Path]
    targets: Sequence[int]
    side: int
    colour: bool
    corruption: str | None
    seed: int

    @property
    def num_bytes(self) -> int:
        """The memory of all images as bytes."""
        channels = 3 if self.colour else 1
        return len(self) * channels * self.side**2

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image (C, side, side), float32 in [0, 1], and its target.

        Raises:
            InputError: it cannot be read.
        """
        return as_numbers(self.pixels(index)), torch.tensor(self.targets[index])

    def pixels(self, index: int) -> Tensor:
        """Return an image as bytes; (C, side, side).

        Raises:
            InputError: it cannot be read.
        """
        pixels = torch.from_numpy(read_pixels(self.paths[index], self.side, colour=self.colour))
        if self.corruption is None:
            return pixels
        generator = seeded_generator(self.seed, "image shift", self.corruption, index)
        corrupted = CORRUPTIONS[self.corruption](as_numbers(pixels).unsqueeze(0), generator)
        return as_bytes(corrupted[0])


def in_memory(images: LazyImages) -> PixelDataset:
    """Read all images at once, with the same bits as one by one.

    Raises:
        InputError: one cannot be read.
    """
    pixels = torch.stack([images.pixels(index) for index in range(len(images))])
    return PixelDataset(pixels, torch.tensor(images.targets))
