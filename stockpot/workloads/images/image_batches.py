"""Augmentation of batches of images, and their corrupted copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockpot.workloads.protocol import Batch

if TYPE_CHECKING:
    from torch import Generator, Tensor

_PART = 4096  # images


def augmented(batch: Batch, strength: float, generator: Generator) -> Batch:
    """Flip, rotate, scale, translate and brighten each image at random.

    At strength 1: half of the images flipped left to right, up to 10 degrees, 15 percent of size,
    an eighth of the height both ways, and 20 percent of brightness.

    Args:
        batch: images (N, C, H, W) in [0, 1], and targets (N,).
        strength: in [0, 1]; 0 returns the batch itself.
        generator: on the CPU, so that all devices get the same bits.
    """
    if strength == 0:
        return batch
    import torch

    from stockpot.workloads.images.corruptions import transform

    images, targets = batch
    drawn = 2 * torch.rand(6, len(images), generator=generator) - 1
    is_flipped = (drawn[0] < strength - 1).to(images.device)
    degrees, zoom, right, down, brighter = (strength * drawn[1:]).to(images.device)
    flipped = torch.where(is_flipped.view(-1, 1, 1, 1), images.flip(3), images)
    reach = images.shape[-2] / 8
    moved = transform(
        flipped,
        degrees=10 * degrees,
        zoom=1 + 0.15 * zoom,
        right=reach * right,
        down=reach * down,
    )
    return (moved * (1 + 0.2 * brighter).view(-1, 1, 1, 1)).clamp(0, 1), targets


def corrupted(images: Tensor, name: str, generator: Generator) -> Tensor:
    """Return a copy of images (N, C, H, W) in [0, 1] under the corruption `name`.

    They are corrupted in parts, since a corruption takes several times their memory.
    """
    import torch

    from stockpot.workloads.images.corruptions import CORRUPTIONS

    parts = torch.split(images, _PART)
    return torch.cat([CORRUPTIONS[name](part, generator) for part in parts])
