"""The fashion_mnist workload: 28 x 28 images of clothes, packaged by Debian.

Importing this module, building a `FashionMnist` and asking for its digest import no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from stockpot.errors import InputError, unknown_name
from stockpot.seeding import seeded_generator
from stockpot.storage.digests import file_digest
from stockpot.workloads.chosen_shifts import CORRUPTION_NAMES, split_of_shifts
from stockpot.workloads.classification import accuracy, cross_entropies
from stockpot.workloads.files import digest_of, project_path
from stockpot.workloads.images.idx_files import find_idx, idx_shape, read_idx
from stockpot.workloads.protocol import Batch, Metric, Shift, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor, nn
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


class FashionMnist:
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

    shift_names: ClassVar[tuple[str, ...]] = CORRUPTION_NAMES
    task: Task = "classification"
    metrics: Mapping[str, Metric]

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
        self.metrics = MappingProxyType({"accuracy": accuracy})
        self._seed = seed
        self._shift_splits = split_of_shifts(
            "fashion_mnist", val_shifts, test_shifts, self.shift_names
        )
        self._files = _find_files(project_path(data))
        self._sizes = {"pretrain": pretrain_size, "train": train_size, "val": val_size}
        _check_sizes(self._sizes, self._files["train images"])
        self._datasets: dict[str, TensorDataset] = {}

    def data_digest(self) -> str:
        """Return the SHA-256 (hex) of the files, the seed and the sizes of the splits."""
        files = [file_digest(path) for path in self._files.values()]
        return digest_of(files=files, seed=self._seed, sizes=self._sizes, version=_VERSION)

    def build_model(self, generator: Generator) -> nn.Module:
        """Build the conv net, initialised from `generator` alone."""
        from stockpot.workloads.images.fashion_net import build_fashion_net

        return build_fashion_net(_NUM_CLASSES, generator)

    def dataset(self, split: str) -> TensorDataset:
        """Return images (N, 1, 28, 28), float32 in [0, 1], and targets (N,) of a split.

        Raises:
            InputError: there is no such split, or a file is damaged.
        """
        if split == "test" and split not in self._datasets:
            images, labels = self._read("test")
            self._datasets[split] = _tensors(images, labels)
        elif split in self._sizes and split not in self._datasets:
            self._datasets |= self._split_train()
        elif split not in self._datasets:
            raise unknown_name("split of the fashion_mnist workload", split, [*self._sizes, "test"])
        return self._datasets[split]

    def shifts(self) -> Mapping[str, Shift]:
        """Return the chosen shifts; each copy depends on the seed and its name alone."""
        return {
            name: Shift(split, partial(self._shifted, name, split))
            for name, split in self._shift_splits.items()
        }

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:
        """Flip, rotate, scale, translate and brighten each image at random."""
        from stockpot.workloads.images.image_batches import augmented

        return augmented(batch, strength, generator)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits; (N, 10)."""
        logits: Tensor = model(batch[0])
        return logits

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the cross entropy of each example; (N,)."""
        return cross_entropies(outputs, batch[-1], label_smoothing)

    def _split_train(self) -> dict[str, TensorDataset]:
        """Split the train images by a random permutation; some may be unused."""
        import torch

        images, labels = self._read("train")
        generator = seeded_generator(self._seed, "fashion_mnist split")
        order = torch.randperm(len(images), generator=generator)[: sum(self._sizes.values())]
        parts = torch.split(order, list(self._sizes.values()))
        return {
            name: _tensors(images[part.numpy()], labels[part.numpy()])
            for name, part in zip(self._sizes, parts, strict=True)
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

    def _shifted(self, name: str, split: str) -> TensorDataset:
        """Return the copy of `split` under the corruption `name`."""
        from torch.utils.data import TensorDataset

        from stockpot.workloads.images.image_batches import corrupted

        images, targets = self.dataset(split).tensors
        generator = seeded_generator(self._seed, "fashion_mnist shift", name)
        return TensorDataset(corrupted(images, name, generator), targets)


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
