"""mixup by hand."""

import torch

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.mixup import mix
from stockpot.ingredients.finetuning.objective import outputs_and_losses
from stockpot.seeding import seeded_generator
from stockpot.workloads import build_workload
from stockpot.workloads.batches import take

WORKLOAD = build_workload("digits", seed=0)
HOW = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.0,
    epochs=1,
    batch_size=6,
    label_smoothing=0.0,
    mixup=0.4,
    augmentation=0.0,
    seed=0,
)


def test_mixup_is_the_mixed_inputs_and_the_mixed_loss_by_hand():
    batch = take(WORKLOAD.dataset("train"), torch.arange(6))
    mixed = mix(batch, 0.25, seeded_generator(0, "partners"))
    partners = torch.randperm(6, generator=seeded_generator(0, "partners"))
    model = WORKLOAD.build_model(seeded_generator(0, "weights"))

    outputs, losses = outputs_and_losses(WORKLOAD, model, mixed, HOW)

    cross_entropy = torch.nn.functional.cross_entropy
    one = cross_entropy(outputs, batch[1], reduction="none")
    other = cross_entropy(outputs, batch[1][partners], reduction="none")
    torch.testing.assert_close(mixed.first[0], 0.25 * batch[0] + 0.75 * batch[0][partners])
    assert torch.equal(outputs, model(mixed.first[0]))
    torch.testing.assert_close(losses, 0.25 * one + 0.75 * other)
