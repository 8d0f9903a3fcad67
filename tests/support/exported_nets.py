"""Nets of the digits that were trained from different initial weights, in files."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from made_context import DIGITS
from safetensors.torch import save_file
from torch import Tensor

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune


def export_nets(folder: Path, count: int = 2) -> list[Path]:
    """Write nets of the digits as a.safetensors, b.safetensors, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{chr(ord('a') + number)}.safetensors" for number in range(count)]
    for number, path in enumerate(paths):
        save_file(trained_net(number), path)
    return paths


@cache
def trained_net(seed: int) -> dict[str, Tensor]:
    """Train a net of the digits from initial weights of its own."""
    how = Hyperparameters(
        learning_rate=3e-3,
        weight_decay=0.0,
        epochs=8,
        batch_size=50,
        label_smoothing=0.0,
        mixup=0.0,
        augmentation=0.0,
        seed=seed,
    )
    return dict(fine_tune(DIGITS.build(), None, how, split="train"))
