"""mixup by hand."""

import torch

from stockpot.ingredients.finetuning.mixup import mix, mixed_loss
from stockpot.seeding import seeded_generator
from stockpot.workloads import build_workload
from stockpot.workloads.batches import take

WORKLOAD = build_workload("digits", seed=0)


def test_mixup_is_the_mixed_inputs_and_the_mixed_loss_by_hand():
    batch = take(WORKLOAD.dataset("train"), torch.arange(6))
    mixed = mix(batch, 0.25, seeded_generator(0, "partners"))
    partners = torch.randperm(6, generator=seeded_generator(0, "partners"))
    outputs = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))

    losses = mixed_loss(WORKLOAD, outputs, mixed, label_smoothing=0.0)

    cross_entropy = torch.nn.functional.cross_entropy
    one = cross_entropy(outputs, batch[1], reduction="none")
    other = cross_entropy(outputs, batch[1][partners], reduction="none")
    torch.testing.assert_close(mixed.first[0], 0.25 * batch[0] + 0.75 * batch[0][partners])
    torch.testing.assert_close(losses, 0.25 * one + 0.75 * other)
