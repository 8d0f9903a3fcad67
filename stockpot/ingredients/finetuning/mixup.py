"""mixup (Zhang et al. 2018, https://arxiv.org/abs/1710.09412)."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from stockpot.errors import InputError
from stockpot.workloads.protocol import Batch


@dataclass(frozen=True, slots=True)
class MixedBatch:
    """A batch whose inputs are mixed pairwise; with a share of 1 they are unmixed.

    Attributes:
        first: the mixed inputs with each example's own targets.
        second: the same mixed inputs with its partner's targets.
        share: weight of the example itself in each input, in [0, 1].
        rows: indices of the examples in the split, (N,); None where nothing needs them.
    """

    first: Batch
    second: Batch
    share: float
    rows: Tensor | None = None


def draw_share(alpha: float, seed: int) -> float:
    """Draw the share of a batch's own inputs from Beta(alpha, alpha), seeded."""
    return random.Random(seed).betavariate(alpha, alpha)


def mix(batch: Batch, share: float, generator: Generator) -> MixedBatch:
    """Mix each example's inputs with those of a random partner of the same batch.

    Args:
        batch: floating-point inputs (N, ...), one or more, and targets (N,) last.
        share: weight of the example itself in each input, in [0, 1].
        generator: draws the partners; on the CPU.

    Raises:
        InputError: an input is not floating-point, so it cannot be mixed.
    """
    *inputs, targets = batch
    kinds = [tensor.dtype for tensor in inputs if not tensor.is_floating_point()]
    if kinds:
        raise InputError(f"mixup: inputs must be floating-point, got {kinds}; set mixup to 0")
    partners = torch.randperm(len(targets), generator=generator).to(targets.device)
    mixed = [share * tensor + (1 - share) * tensor[partners] for tensor in inputs]
    return MixedBatch((*mixed, targets), (*mixed, targets[partners]), share)
