"""What a fine-tuning run minimises at a step: augmentation, mixing and label smoothing included."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import repeat

import torch
from torch import Tensor, nn

from stockpot.ingredients.finetuning.cutmix import cut_and_paste
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.mixup import MixedBatch, draw_share, mix, mixed_loss
from stockpot.seeding import derive_seed, seeded_generator
from stockpot.workloads.protocol import Batch, Workload

_HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def training_losses(
    workload: Workload, model: nn.Module, batch: Batch, hyperparameters: Hyperparameters, step: int
) -> Tensor:
    """Return the loss of each example of a batch, as a run sees it at a step; (N,).

    Args:
        workload: augments, calls the model and has the loss.
        model: in the mode that is wanted.
        batch: N examples of the split that is trained on, as they are there.
        hyperparameters: the run's; its seed and the step name what is drawn.
        step: from 0.

    Raises:
        InputError: the workload's inputs do not fit mixup or CutMix.
    """
    mixed = training_batch(workload, batch, hyperparameters, step)
    return batch_losses(workload, model, mixed, hyperparameters)


def training_batch(
    workload: Workload, batch: Batch, hyperparameters: Hyperparameters, step: int
) -> MixedBatch:
    """Return a batch as it is passed at a step: augmented, and mixed if the run mixes.

    With both mixup and CutMix, each step does one of them, as likely.

    Raises:
        InputError: the workload's inputs do not fit mixup or CutMix.
    """
    seed, alpha = hyperparameters.seed, hyperparameters.mixup
    if hyperparameters.augmentation:
        generator = seeded_generator(seed, "augmentation", step)
        batch = workload.augment(batch, hyperparameters.augmentation, generator)
    if not (alpha or hyperparameters.cutmix):
        return MixedBatch(batch, batch, 1.0)
    partners = seeded_generator(seed, "mixup partners", step)
    if _cuts(hyperparameters, step):
        share = draw_share(hyperparameters.cutmix, derive_seed(seed, "cutmix share", step))
        return cut_and_paste(batch, share, partners)
    return mix(batch, draw_share(alpha, derive_seed(seed, "mixup share", step)), partners)


def batch_losses(
    workload: Workload, model: nn.Module, mixed: MixedBatch, hyperparameters: Hyperparameters
) -> Tensor:
    """Return the loss of each example of what `training_batch` gave, or a part of it; (N,)."""
    outputs = batch_outputs(workload, model, mixed, hyperparameters)
    return losses_of(workload, outputs, mixed, hyperparameters)


def batch_outputs(
    workload: Workload, model: nn.Module, mixed: MixedBatch, hyperparameters: Hyperparameters
) -> Tensor:
    """Return the outputs for what `training_batch` gave, or a part of it; (N, C).

    Half precision is for the forward pass alone: outputs are at least float32.
    """
    with _precision(hyperparameters.precision, mixed.first[-1].device):
        outputs = workload.forward(model, mixed.first)
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def losses_of(
    workload: Workload, outputs: Tensor, mixed: MixedBatch, hyperparameters: Hyperparameters
) -> Tensor:
    """Return the loss of each example, of outputs (N, C); (N,)."""
    smoothing = hyperparameters.label_smoothing
    if mixed.share == 1:
        return workload.loss(outputs, mixed.first, label_smoothing=smoothing)
    return mixed_loss(workload, outputs, mixed, label_smoothing=smoothing)


def parts_of(mixed: MixedBatch, count: int) -> Iterator[MixedBatch]:
    """Yield a batch in at most `count` parts of equal size, but for the last."""
    if count == 1:
        yield mixed
        return
    size = -(-len(mixed.first[-1]) // count)
    firsts, seconds = (
        zip(*(torch.split(tensor, size) for tensor in each), strict=True)
        for each in (mixed.first, mixed.second)
    )
    rows = repeat(None) if mixed.rows is None else torch.split(mixed.rows, size)
    for first, second, own_rows in zip(firsts, seconds, rows, strict=False):
        yield MixedBatch(first, second, mixed.share, own_rows)


def _cuts(how: Hyperparameters, step: int) -> bool:
    """Say whether a step does CutMix rather than mixup."""
    if not (how.mixup and how.cutmix):
        return how.cutmix > 0
    return random.Random(derive_seed(how.seed, "mixup or cutmix", step)).random() < 0.5


def _precision(name: str, device: torch.device) -> AbstractContextManager[object]:
    """Return where a forward pass is in a precision; Micikevicius et al. 2018."""
    if name not in _HALF_TYPES:
        return nullcontext()
    return torch.autocast(device.type, _HALF_TYPES[name])
