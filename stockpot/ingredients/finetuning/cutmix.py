"""CutMix (Yun et al. 2019, https://arxiv.org/abs/1905.04899)."""

from __future__ import annotations

import math

import torch
from torch import Generator

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.mixup import MixedBatch
from stockpot.workloads.protocol import Batch


def cut_and_paste(batch: Batch, share: float, generator: Generator) -> MixedBatch:
    """Paste a box of a random partner of the same batch into each image, at the same place.

    Args:
        batch: images (N, C, H, W), and targets (N,) last.
        share: share of each image to keep, in [0, 1]. The box is clipped to the image and to whole
            pixels; the result has the share that was actually kept.
        generator: draws the partners, then the centre of the box; on the CPU.

    Raises:
        InputError: the inputs are not one tensor of images.
    """
    images, targets = batch[0], batch[-1]
    if len(batch) != 2 or images.ndim != 4:
        shapes = [tuple(tensor.shape) for tensor in batch[:-1]]
        raise InputError(f"cutmix: inputs must be images (N, C, H, W), got {shapes}; set it to 0")
    partners = torch.randperm(len(targets), generator=generator).to(targets.device)
    height, width = images.shape[2:]
    down, across = torch.rand(2, generator=generator).tolist()
    side = math.sqrt(1 - share)
    rows, columns = _side(height, side, down), _side(width, side, across)
    pasted = images.clone()
    pasted[:, :, rows, columns] = images[partners][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    own = 1 - area / (height * width)
    return MixedBatch((pasted, targets), (pasted, targets[partners]), own)


def _side(size: int, share: float, place: float) -> slice:
    """Return the pixel range of the box along a side; its centre is at `place`, in [0, 1)."""
    half, middle = int(share * size) / 2, int(place * size)
    return slice(max(0, math.floor(middle - half)), min(size, math.floor(middle + half)))
