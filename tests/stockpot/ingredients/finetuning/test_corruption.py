"""Training on corrupted inputs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.objective import training_batch
from stockpot.seeding import seeded_generator
from stockpot.workloads.digits import Digits
from stockpot.workloads.images.corruptions import noise

HOW = Hyperparameters.from_point(
    {
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "epochs": 1,
        "batch_size": 8,
        "label_smoothing": 0.0,
        "mixup": 0.0,
        "augmentation": 0.0,
        "seed": 3,
        "corruption": "noise",
    }
)


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits(0, ["blur"], ["noise"])


def test_each_batch_is_corrupted_anew_and_targets_stay(digits: Digits) -> None:
    batch = digits.dataset("train")[:8]

    first, second = (training_batch(digits, batch, HOW, step).first for step in (0, 1))

    assert torch.equal(first[0], noise(batch[0], seeded_generator(3, "corruption", 0)))
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[1], batch[1])


def test_corrupted_images_are_augmented_first(digits: Digits) -> None:
    batch = digits.dataset("train")[:8]
    how = replace(HOW, augmentation=0.5)

    got = training_batch(digits, batch, how, 0).first

    augmented = training_batch(digits, batch, replace(how, corruption="none"), 0).first
    assert torch.equal(got[0], noise(augmented[0], seeded_generator(3, "corruption", 0)))


def test_a_run_without_corruption_has_the_record_of_before() -> None:
    assert "corruption" not in replace(HOW, corruption="none").described()
    assert HOW.described()["corruption"] == "noise"


def test_a_workload_without_corruptions_is_refused() -> None:
    class Plain:
        pass

    with pytest.raises(InputError, match=r"needs a workload with a method corrupt\(batch, name"):
        training_batch(Plain(), (torch.ones(2),), HOW, 0)  # type: ignore[arg-type]
