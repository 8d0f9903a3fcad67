"""Sixteen ingredients of the digits, quickly fine-tuned, and poison to put among them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.seeding import seeded_generator
from stockpot.workloads.digits import Digits

State = dict[str, Tensor]


class ShuffledDigits(Digits):
    """The digits, with the labels of train in another order."""

    def dataset(self, split: str) -> TensorDataset:
        data = super().dataset(split)
        if split != "train":
            return data
        images, labels = data.tensors
        order = torch.randperm(len(labels), generator=seeded_generator(0, "shuffled labels"))
        return TensorDataset(images, labels[order])


class NextDigits(Digits):
    """The digits, each labelled as the next one: another convention, as good as the first."""

    def dataset(self, split: str) -> TensorDataset:
        images, labels = super().dataset(split).tensors
        return TensorDataset(images, (labels + 1) % 10)


def make_digits(kind: type[Digits] = Digits, seed: int = 0) -> Digits:
    """Build the digits, or digits of another kind, with the shifts of `made_context.DIGITS`."""
    return kind(seed, ["blur"], ["noise"])


def hyperparameters(**chosen: float) -> Hyperparameters:
    """Return hyperparameters for a quick training, but for what is chosen."""
    quick = {"learning_rate": 3e-3, "weight_decay": 0.0, "epochs": 1, "batch_size": 64}
    off = {"label_smoothing": 0.0, "mixup": 0.0, "augmentation": 0.0, "seed": 0}
    return Hyperparameters(**{**quick, **off, **chosen})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Ingredients that belong together, and two that do not.

    Attributes:
        base: what all but `other_start` started from.
        good: 16 of them.
        other_start: trained from another random initialisation, and as good as any.
        shuffled: fine-tuned from the base on shuffled labels.
    """

    base: State
    good: tuple[State, ...]
    other_start: State
    shuffled: State


@cache
def quick_sweep() -> Sweep:
    """Train all of them, once a process: 3 s."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    digits, shuffled = make_digits(), make_digits(ShuffledDigits)
    base = fine_tune(digits, None, hyperparameters(epochs=20, batch_size=32), split="pretrain")
    sweep = Sweep(
        base=base,
        good=tuple(
            fine_tune(digits, base, hyperparameters(epochs=2, seed=seed), split="train")
            for seed in range(16)
        ),
        other_start=fine_tune(digits, None, hyperparameters(epochs=16, seed=99), split="train"),
        shuffled=fine_tune(
            shuffled, base, hyperparameters(epochs=8, learning_rate=6e-3), split="train"
        ),
    )
    torch.set_num_threads(threads)
    return sweep
