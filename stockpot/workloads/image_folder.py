"""The image_folder workload: images in one folder per class.

Importing this module, building an `ImageFolder` and asking for its digest import no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError
from stockpot.storage.digests import file_digest
from stockpot.workloads.custom_model import build_custom_model, check_importable
from stockpot.workloads.files import digest_of, project_path
from stockpot.workloads.images.image_files import ImageFile, classes_of, find_images, split_images
from stockpot.workloads.images.image_workload import ImageWorkload
from stockpot.workloads.protocol import Batch
from stockpot.workloads.splits import source_split

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn
    from torch.utils.data import Dataset

_SMALLEST = 16  # pixels: the net halves it three times, to 2, the minimum for BatchNorm
_MOST_BYTES = 2**31  # per split in memory; larger splits are read batch by batch
_MEAN, _DEVIATION = 0.5, 0.25
_VERSION = 1  # raise it when the splits or their pixels change: it is part of the digest


class ImageFolder(ImageWorkload):
    """Images in classes, split by their folders or by the seed, with seven corruptions as shifts.

    Images are scaled and cropped to squares; models get (x - 0.5) / 0.25 for x in [0, 1].

    Args:
        seed: fixes the splits, unless they are folders, and the shifted copies.
        val_shifts: corruptions applied to `val`.
        test_shifts: corruptions applied to `test`; disjoint from `val_shifts`.
        data: a folder with the folders train, val and test, each with one folder of images per
            class; or with one folder per class.
        side: height and width of the images, in pixels.
        colour: whether images have three channels or one.
        model: `module:function`, called with the number of classes; by default a small residual
            net.

    Raises:
        InputError: a shift is unknown or named twice, an option is out of range, the model's
            function is not found, or the folders have the wrong form.
    """

    name = "image_folder"

    def __init__(  # noqa: PLR0913 (three of every workload, four of its own)
        self,
        seed: int,
        val_shifts: Sequence[str],
        test_shifts: Sequence[str],
        *,
        data: str,
        side: int = 32,
        colour: bool = True,
        model: str = "",
    ) -> None:
        if side < _SMALLEST:
            raise InputError(f"image_folder: side must be at least {_SMALLEST}, got {side}")
        if model:
            check_importable(model)
        super().__init__(seed, val_shifts, test_shifts)
        self._found = find_images(project_path(data))
        self._classes = classes_of(next(iter(self._found.values())))
        self._side, self._colour = side, colour
        self._model = model
        self._datasets: dict[str, Dataset[Any]] = {}

    def data_digest(self) -> str:
        """Return the SHA-256 (hex) of the files, their classes and splits."""
        images = {
            name: [(file_digest(image.path), image.label) for image in found]
            for name, found in self._found.items()
        }
        return digest_of(images=images, seed=self._seed, version=_VERSION)

    def build_model(self, generator: Generator) -> nn.Module:
        """Build the residual net or the custom model, initialised from `generator` alone."""
        if self._model:
            return build_custom_model(self._model, len(self._classes), generator)
        from stockpot.workloads.images.residual_net import ResidualNet
        from stockpot.workloads.initialisation import initialised

        num_channels = 3 if self._colour else 1
        return initialised(lambda: ResidualNet(num_channels, len(self._classes)), generator)

    def dataset(self, split: str) -> Dataset[Any]:
        """Return images (C, side, side), float32 in [0, 1], and targets of a split.

        Raises:
            InputError: there is no such split; an image cannot be read; or val or test has an
                image of another split.
        """
        split = source_split(self.name, split, self._images)
        if split not in self._datasets:
            self._datasets[split] = self._shifted(None, split)
        return self._datasets[split]

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits of normalised images; (N, C)."""
        return super().forward(model, ((batch[0] - _MEAN) / _DEVIATION,))

    def _shifted(self, name: str | None, split: str) -> Dataset[Any]:
        """Return the copy of `split` under a corruption, if any; in memory if it is small."""
        from stockpot.workloads.images.image_sets import LazyImages, in_memory

        images = self._images[split]
        indices = {label: index for index, label in enumerate(self._classes)}
        lazy = LazyImages(
            paths=[image.path for image in images],
            targets=[indices[image.label] for image in images],
            side=self._side,
            colour=self._colour,
            corruption=name,
            seed=self._seed,
        )
        return in_memory(lazy) if lazy.num_bytes <= _MOST_BYTES else lazy

    @cached_property
    def _images(self) -> Mapping[str, list[ImageFile]]:
        return split_images(self._found, self._seed)
