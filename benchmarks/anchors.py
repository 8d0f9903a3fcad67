"""Anchored fine-tuning against the same training without an anchor, over seeds, on digits.

    python benchmarks/anchors.py sequence 5     ZSCL: two tasks in sequence
    python benchmarks/anchors.py soup 5         SALSA: held near a soup, near one model, or free

Prints the mean over seeds and a 95 % t interval of the paired differences, in points of accuracy on
test. A seed changes the splits, the base and all runs. All variants take as many steps.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

import torch
from over_seeds import over_seeds, with_interval
from torch import Tensor

from stockpot.experiment.sequence import Kept
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.workloads import build_workload
from stockpot.workloads.passes import Examples, empty_model
from stockpot.workloads.protocol import Workload

_SHIFTS = ("noise", "rotate", "translate", "contrast", "occlude")
_BASE = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.01,
    epochs=30,
    batch_size=32,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.7,
    seed=0,
)
_TASK = replace(_BASE, epochs=5, weight_decay=0.0, augmentation=0.0)
_ZSCL = replace(
    _TASK,
    anchor="base",
    anchor_loss="distil",
    anchor_weight=1.0,
    anchor_data="pretrain",
    average="swa",
    average_start=1,
    swa_start=0.0,
    average_every=10,
)


def accuracy(workload: Workload, weights: Mapping[str, Tensor], name: str = "test") -> float:
    """Return the accuracy in % on test or one of its shifts."""
    shifts = workload.shifts()
    dataset = shifts[name].dataset() if name in shifts else workload.dataset(name)
    net = empty_model(workload, "cpu")
    net.load_state_dict(dict(weights))
    examples = Examples(workload, dataset, "cpu")
    right = examples.outputs(net).argmax(dim=1) == examples.targets
    return 100 * float(right.double().mean())


def sequence(seed: int) -> dict[str, float]:
    """Learn the classes 0 to 4, then 5 to 9, with ZSCL and without."""
    tasks = [build_workload("digits", seed=seed, options={"classes": c}) for c in ("0-4", "5-9")]
    base = fine_tune(tasks[0], None, replace(_BASE, seed=seed), split="pretrain")
    measured = {}
    for name, how in (("ZSCL", _ZSCL), ("plain", _TASK)):
        models: list[Mapping[str, Tensor]] = [base]
        for number, task in enumerate(tasks):
            own = replace(how, seed=10 * seed + number)
            models.append(fine_tune(task, models[-1], own, split="train", anchor=base))
        kept = Kept.of([[accuracy(task, model) for task in tasks] for model in models])
        measured |= {
            f"{name} last": kept.last,
            f"{name} transfer": kept.transfer,
            f"{name} forgetting": kept.forgetting,
        }
    return measured


def soup(seed: int) -> dict[str, float]:
    """Fine-tune from one of two models, near their soup, near that model, or free."""
    workload = build_workload("digits", seed=seed, test_shifts=_SHIFTS)
    base = fine_tune(workload, None, replace(_BASE, seed=seed), split="pretrain")
    sft = [
        fine_tune(
            workload, base, replace(_TASK, augmentation=0.7, seed=10 * seed + n), split="train"
        )
        for n in (1, 2)
    ]
    mean = {name: (sft[0][name] + sft[1][name]) / 2 for name in base}
    free = replace(_TASK, augmentation=0.7, seed=10 * seed)
    held = replace(free, anchor="soup", anchor_loss="kl", anchor_weight=1.0)
    runs = {"near the soup": (held, mean), "near one": (held, sft[0]), "free": (free, None)}
    measured = {}
    for name, (how, anchor) in runs.items():
        tuned = fine_tune(workload, sft[0], how, split="train", anchor=anchor)
        measured[f"{name} test"] = accuracy(workload, tuned)
        shifted = [accuracy(workload, tuned, shift) for shift in _SHIFTS]
        measured[f"{name} shifts"] = sum(shifted) / len(shifted)
    return measured


def main() -> None:
    """Measure the kind and the number of seeds on the command line."""
    kind, count = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    rows = [{"sequence": sequence, "soup": soup}[kind](seed) for seed in range(count)]
    for name in rows[0]:
        print(f"{name}: {sum(row[name] for row in rows) / count:.1f}")
    best, *others = dict.fromkeys(name.rpartition(" ")[0] for name in rows[0])
    for other in others:
        for place in dict.fromkeys(name.rpartition(" ")[2] for name in rows[0]):
            differences = [row[f"{best} {place}"] - row[f"{other} {place}"] for row in rows]
            print(f"{best} less {other}, {place}: {with_interval(over_seeds(differences))}")


if __name__ == "__main__":
    main()
