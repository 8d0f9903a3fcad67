"""The loss of a training step, with augmentation, mixing, label smoothing and precision."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from stockpot.ingredients.finetuning.cutmix import cut_and_paste
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.mixup import MixedBatch, draw_share, mix
from stockpot.seeding import derive_seed, seeded_generator
from stockpot.workloads.protocol import Batch, Workload, corrupt_of

_HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def training_batch(
    workload: Workload, batch: Batch, hyperparameters: Hyperparameters, step: int
) -> MixedBatch:
    """Return the batch of a step: augmented, corrupted, then mixed, as far as the run says so.

    With both mixup and CutMix, each step uses one of them, with equal probability.

    Raises:
        InputError: the workload's inputs do not fit mixup or CutMix, or it has no such corruption.
    """
    seed, alpha = hyperparameters.seed, hyperparameters.mixup
    if hyperparameters.augmentation:
        generator = seeded_generator(seed, "augmentation", step)
        batch = workload.augment(batch, hyperparameters.augmentation, generator)
    if hyperparameters.corruption != "none":
        generator = seeded_generator(seed, "corruption", step)
        batch = corrupt_of(workload)(batch, hyperparameters.corruption, generator)
    if not (alpha or hyperparameters.cutmix):
        return MixedBatch(batch, batch, 1.0)
    partners = seeded_generator(seed, "mixup partners", step)
    if _cuts(hyperparameters, step):
        share = draw_share(hyperparameters.cutmix, derive_seed(seed, "cutmix share", step))
        return cut_and_paste(batch, share, partners)
    return mix(batch, draw_share(alpha, derive_seed(seed, "mixup share", step)), partners)


def outputs_and_losses(
    workload: Workload,
    model: nn.Module,
    mixed: MixedBatch,
    hyperparameters: Hyperparameters,
    forward: Callable[[nn.Module, Batch], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the outputs (N, C) and losses (N,) of a batch of `training_batch`, or a part of one.

    Half precision applies to the forward pass alone: outputs are float32 or wider. The loss of a
    mixed example is that of both targets, mixed as the inputs are. `forward` is the workload's,
    unless given.
    """
    with in_precision(hyperparameters.precision, mixed.first[-1].device):
        outputs = (forward or workload.forward)(model, mixed.first)
    outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    loss = partial(workload.loss, outputs, label_smoothing=hyperparameters.label_smoothing)
    if mixed.share == 1:
        return outputs, loss(mixed.first)
    return outputs, mixed.share * loss(mixed.first) + (1 - mixed.share) * loss(mixed.second)


def parts_of(mixed: MixedBatch, count: int) -> Iterator[MixedBatch]:
    """Split a batch into at most `count` parts of equal size; the last may be smaller."""
    num_examples = len(mixed.first[-1])
    size = -(-num_examples // count)
    for start in range(0, num_examples, size):
        part = slice(start, start + size)
        first, second = (
            tuple(tensor[part] for tensor in each) for each in (mixed.first, mixed.second)
        )
        rows = None if mixed.rows is None else mixed.rows[part]
        yield MixedBatch(first, second, mixed.share, rows)


def _cuts(how: Hyperparameters, step: int) -> bool:
    """Whether a step uses CutMix rather than mixup."""
    if not (how.mixup and how.cutmix):
        return how.cutmix > 0
    return random.Random(derive_seed(how.seed, "mixup or cutmix", step)).random() < 0.5


def in_precision(name: str, device: torch.device) -> AbstractContextManager[object]:
    """Return a context for forward passes in a precision; Micikevicius et al. 2018."""
    if name not in _HALF_TYPES:
        return nullcontext()
    return torch.autocast(device.type, _HALF_TYPES[name])
