"""Images stored as bytes, in a quarter of the memory of float32."""

from __future__ import annotations

from torch import Tensor
from torch.utils.data import TensorDataset

_WHITE = 255


class PixelDataset(TensorDataset):
    """Images (N, C, H, W), stored as uint8 and returned as float32 in [0, 1], and targets (N,)."""

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Return one image (C, H, W) and its target."""
        images, targets = self.tensors
        return as_numbers(images[index]), targets[index]


def as_numbers(images: Tensor) -> Tensor:
    """Convert bytes to float32 in [0, 1]."""
    return images.float() / _WHITE


def as_bytes(images: Tensor) -> Tensor:
    """Convert images in [0, 1] to the nearest bytes."""
    return (images * _WHITE).round().byte()
