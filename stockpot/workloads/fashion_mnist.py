"""The fashion_mnist workload: 28 x 28 images of clothes, packaged by Debian.

Importing this module, building a `FashionMnist` and asking for its digest import no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from stockpot.errors import InputError, unknown_name
from stockpot.storage.digests import file_digest
from stockpot.workloads.files import digest_of, project_path
from stockpot.workloads.images.idx_files import find_idx, idx_shape, read_idx
from stockpot.workloads.images.image_workload import ImageWorkload
from stockpot.workloads.protocol import SPLITS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, nn
    from torch.utils.data import TensorDataset

_FILES: Mapping[str, str] = MappingProxyType(
    {
        "train images": "train-images-idx3-ubyte",
        "train labels": "train-labels-idx1-ubyte",
        "test images": "t10k-images-idx3-ubyte",
        "test labels": "t10k-labels-idx1-ubyte",
    }
)
_SIDE = 28  # pixels
_NUM_CLASSES = 10
_VERSION = 1  # raise it when the splits or the corruptions change: it is part of the digest


class FashionMnist(ImageWorkload):
    """Images in ten classes, split by the seed, with seven corruptions as shifts.

    Args:
        seed: fixes the splits and the shifted copies.
        val_shifts: corruptions applied to `val`.
        test_shifts: corruptions applied to `test`; disjoint from `val_shifts`.
        data: a folder with the four IDX files of MNIST, gzipped or not.
        pretrain_size: number of train images for the base.
        train_size: number of train images for the ingredients.
        val_size: number of train images for choices. Test has all test images.

    Raises:
        InputError: a shift is unknown or named twice; a file is missing or not an IDX
            file; or it has fewer images than the sizes sum to.
    """

    name = "fashion_mnist"

    def __init__(  # noqa: PLR0913 (three of every workload, four of its own)
        self,
        seed: int,
        val_shifts: Sequence[str],
        test_shifts: Sequence[str],
        *,
        data: str = "/usr/share/datasets/fashion-mnist",
        pretrain_size: int = 6000,
        train_size: int = 12000,
        val_size: int = 4000,
    ) -> None:
        super().__init__(seed, val_shifts, test_shifts)
        self._files = _find_files(project_path(data))
        self._sizes = {"pretrain": pretrain_size, "train": train_size, "val": val_size}
        _check_sizes(self._sizes, self._files["train images"])

    def data_digest(self) -> str:
        """Return the SHA-256 (hex) of the files, the seed and the sizes of the splits."""
        files = [file_digest(path) for path in self._files.values()]
        return digest_of(files=files, seed=self._seed, sizes=self._sizes, version=_VERSION)

    def build_model(self, generator: Generator) -> nn.Module:
        """Build the conv net of 163 000 parameters, initialised from `generator` alone."""
        from stockpot.workloads.images.conv_net import ConvNet
        from stockpot.workloads.initialisation import initialised

        return initialised(
            lambda: ConvNet(_NUM_CLASSES, side=_SIDE, widths=(24, 48), kernel=5, num_hidden=64),
            generator,
        )

    def dataset(self, split: str) -> TensorDataset:
        """Return images (N, 1, 28, 28), float32 in [0, 1], and targets (N,) of a split.

        Raises:
            InputError: there is no such split, or a file is damaged.
        """
        if split not in SPLITS:
            raise unknown_name("split of the fashion_mnist workload", split, SPLITS)
        return self._test if split == "test" else self._splits_of_train[split]

    @cached_property
    def _test(self) -> TensorDataset:
        return _tensors(*self._read("test"))

    @cached_property
    def _splits_of_train(self) -> dict[str, TensorDataset]:
        images, labels = self._read("train")
        return {
            name: _tensors(images[part.numpy()], labels[part.numpy()])
            for name, part in self._divided(len(images), self._sizes).items()
        }

    def _read(self, which: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Read the train or test images (N, 28, 28) and labels (N,)."""
        paths = self._files[f"{which} images"], self._files[f"{which} labels"]
        images, labels = read_idx(paths[0]), read_idx(paths[1])
        _check_images(images.shape, paths[0])
        if labels.shape != images.shape[:1]:
            raise InputError(
                f"{paths[1]}: must have a label for each of {len(images)} images, "
                f"got {labels.shape}"
            )
        if labels.max() >= _NUM_CLASSES:
            row = int(labels.argmax())
            raise InputError(f"{paths[1]}: labels must be 0 to 9, got {labels[row]} at {row}")
        return images, labels


def _find_files(folder: Path) -> dict[str, Path]:
    found = {}
    for what, name in _FILES.items():
        path = find_idx(folder, name)
        if path is None:
            raise InputError(
                f"fashion_mnist: {folder} must have {name} or {name}.gz, got neither; install the "
                "Debian package dataset-fashion-mnist (apt-get install dataset-fashion-mnist), or "
                "set workload.options.data to a folder of these files"
            )
        found[what] = path
    return found


def _check_sizes(sizes: Mapping[str, int], path: Path) -> None:
    """Check the sizes of the splits against the header of the train images."""
    shape = idx_shape(path)
    _check_images(shape, path)
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"fashion_mnist: {name}_size must be at least 1, got {size}")
    if sum(sizes.values()) > shape[0]:
        asked = " + ".join(f"{name}_size" for name in sizes)
        raise InputError(
            f"fashion_mnist: {asked} must be at most {shape[0]}, the images of {path}, "
            f"got {sum(sizes.values())}"
        )


def _check_images(shape: tuple[int, ...], path: Path) -> None:
    if len(shape) != 3 or shape[0] < 1 or shape[1:] != (_SIDE, _SIDE):
        raise InputError(f"{path}: must be images of {_SIDE} x {_SIDE}, got the shape {shape}")


def _tensors(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> TensorDataset:
    import torch
    from torch.utils.data import TensorDataset

    pixels = torch.from_numpy(images.copy()).float().div_(255).unsqueeze(1)  # (N, 1, 28, 28)
    return TensorDataset(pixels, torch.from_numpy(labels.astype("int64")))
