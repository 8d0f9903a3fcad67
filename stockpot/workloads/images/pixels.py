"""Images kept as bytes, a quarter of what they take as numbers."""

from __future__ import annotations

from torch import Tensor
from torch.utils.data import TensorDataset

_WHITE = 255


class PixelDataset(TensorDataset):
    """Images and targets; the images of examples and batches are float32 in [0, 1]."""

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        """Hold images (N, C, H, W), uint8, and targets (N,)."""
        super().__init__(images, targets)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Return one image (C, H, W) and its target."""
        images, targets = self.tensors
        return as_numbers(images[index]), targets[index]


def as_numbers(images: Tensor) -> Tensor:
    """Return images of bytes as float32 in [0, 1]."""
    return images.float() / _WHITE


def as_bytes(images: Tensor) -> Tensor:
    """Return images in [0, 1] as the nearest bytes."""
    return (images * _WHITE).round().byte()
