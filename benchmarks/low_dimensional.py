"""Accuracy and training time of adapters, subspaces, companders and losses of bags.

    python benchmarks/low_dimensional.py [SEEDS]

Digits: SEEDS (5) times, a base is trained on pretrain for 20 epochs and fine-tuned on train for 8
with each technique, equally many steps. Printed are the mean accuracy on test in %, the paired
difference from plain fine-tuning with its 95 % interval (Student, over seeds), and the median CPU
time relative to it. Then the same for the base itself: 20 supervised epochs with and without 20
epochs of Barlow Twins before them, mixed and plain.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from over_seeds import half_width, over_seeds
from torch import Tensor

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.seeding import seeded_generator
from stockpot.workloads.digits import Digits

BASE = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.01,
    epochs=20,
    batch_size=32,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.7,
    seed=0,
)
TUNED = replace(BASE, learning_rate=8e-3, weight_decay=0.0, epochs=8)
TECHNIQUES: Mapping[str, Mapping[str, object]] = {
    "plain": {},
    "adapter: bone": {"adapter": "bone"},
    "adapter: miss": {"adapter": "miss"},
    "adapter: tucker": {"adapter": "tucker"},
    "subspace: 100": {"subspace": 100, "learning_rate": 8e-3 * 19},  # sqrt(weights / 100),
    "subspace: 1000": {"subspace": 1000, "learning_rate": 8e-3 * 6},
    "compander: 1.2": {"compander": 1.2},
    "bag_size: 4, rho: 0": {"bag_size": 4},
    "bag_size: 4, rho: 0.5": {"bag_size": 4, "rho": 0.5},
    "bag_size: 4, rho: 1": {"bag_size": 4, "rho": 1.0},
}
BASES: Mapping[str, Mapping[str, object]] = {
    "supervised": {},
    "barlow_twins, mix 0": {"pretrain": "barlow_twins", "pretrain_epochs": 20, "pretrain_mix": 0.0},
    "barlow_twins, mix 1": {"pretrain": "barlow_twins", "pretrain_epochs": 20},
}


def main(num_seeds: int) -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    workloads = [Digits(seed, [], []) for seed in range(num_seeds)]
    starts = [
        fine_tune(one, None, replace(BASE, seed=seed), split="pretrain")
        for seed, one in enumerate(workloads)
    ]
    _table(workloads, starts, TECHNIQUES, TUNED, "train")
    _table(workloads, [None] * num_seeds, BASES, BASE, "pretrain")


def _table(
    workloads: list[Digits],
    starts: list[dict[str, Tensor]] | list[None],
    techniques: Mapping[str, Mapping[str, object]],
    how: Hyperparameters,
    split: str,
) -> None:
    scores, seconds = np.zeros((2, len(techniques), len(workloads)))
    for column, (workload, start) in enumerate(zip(workloads, starts, strict=True)):
        for row, values in enumerate(techniques.values()):
            own = replace(how, seed=column, **values)  # type: ignore[arg-type]
            begun = time.process_time()
            tuned = fine_tune(workload, start, own, split=split)
            seconds[row, column] = time.process_time() - begun
            scores[row, column] = 100 * _accuracy(workload, tuned)
    print(f"{'':24s}  test   minus the first  time")
    for row, name in enumerate(techniques):
        less = over_seeds(scores[row] - scores[0])
        ratio = float(np.median(seconds[row] / seconds[0]))
        print(
            f"{name:24s} {scores[row].mean():6.2f} {less.mean:+6.2f} +- {half_width(less):4.2f} "
            f"{ratio:9.2f}"
        )


def _accuracy(workload: Digits, weights: Mapping[str, Tensor]) -> float:
    net = workload.build_model(seeded_generator(0))
    net.load_state_dict(weights)
    images, labels = workload.dataset("test").tensors
    with torch.no_grad():
        return float((net(images).argmax(dim=1) == labels).double().mean())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:] or ["5"]))
