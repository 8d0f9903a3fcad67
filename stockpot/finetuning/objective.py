"""What a fine-tuning run minimises at a step: augmentation, mixup and label smoothing included."""

from __future__ import annotations

from torch import Tensor, nn

from stockpot.finetuning.hyperparameters import Hyperparameters
from stockpot.finetuning.mixup import draw_share, mix, mixed_loss
from stockpot.seeding import derive_seed, seeded_generator
from stockpot.workloads.protocol import Batch, Workload


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
        InputError: the workload's inputs do not fit mixup.
    """
    seed, smoothing = hyperparameters.seed, hyperparameters.label_smoothing
    if hyperparameters.augmentation:
        generator = seeded_generator(seed, "augmentation", step)
        batch = workload.augment(batch, hyperparameters.augmentation, generator)
    if not hyperparameters.mixup:
        outputs = workload.forward(model, batch)
        return workload.loss(outputs, batch, label_smoothing=smoothing)
    share = draw_share(hyperparameters.mixup, derive_seed(seed, "mixup share", step))
    mixed = mix(batch, share, seeded_generator(seed, "mixup partners", step))
    outputs = workload.forward(model, mixed.first)
    return mixed_loss(workload, outputs, mixed, label_smoothing=smoothing)
