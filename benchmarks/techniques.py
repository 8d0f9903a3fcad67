"""The time of fine-tuning with each technique relative to plain AdamW, on the digits.

    python benchmarks/techniques.py [ROUNDS]

In each of ROUNDS (5) rounds every technique is run once, and a plain run of the same net right
before it: 8 epochs over train in batches of 32, 176 steps, without augmentation. A ratio is that of
the CPU seconds of these two runs, preparations such as the scores of data pruning included. Printed
is a Markdown table of the median and the range over the rounds. It shows costs on a net of 37,000
weights, whose step takes about a millisecond: what is computed per step in Python weighs most.

Left out are `compiler`, whose start takes longer than these runs, `precision: fp16` and
`accumulation`, which are for GPUs, and `anchor_loss: dpo`, which is for pairs of responses.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Generator, Tensor, nn

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.workloads.digits import Digits
from stockpot.workloads.initialisation import initialised

PLAIN = Hyperparameters(
    learning_rate=4e-3,
    weight_decay=0.01,
    epochs=8,
    batch_size=32,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=0,
)
TECHNIQUES: tuple[Mapping[str, object], ...] = (
    {"optimizer": "sgd"},
    {"optimizer": "sgdp"},
    {"optimizer": "adamp"},
    {"schedule": "cosine_power"},
    {"clip_norm": 1.0},
    {"layer_decay": 0.8},
    {"frozen": "features.*"},
    {"precision": "bf16"},
    {"augmentation": 0.7},
    {"corruption": "noise"},
    {"label_smoothing": 0.1},
    {"mixup": 0.2},
    {"cutmix": 1.0},
    {"average": "ema"},
    {"average": "swa"},
    {"average": "lawa"},
    {"sam_radius": 0.05},
    {"patience": 8},
    {"adapter": "lora"},
    {"adapter": "lora", "adapter_init": "eva"},
    {"adapter": "dora"},
    {"adapter": "bone"},
    {"adapter": "miss"},
    {"adapter": "tucker"},
    {"sparsity": 0.5},
    {"sparsity": 0.5, "sparsity_update_every": 5},
    {"templates": 2},
    {"subspace": 300},
    {"subspace": 300, "subspace_kind": "sparse"},
    {"subspace": 300, "subspace_kind": "dense"},
    {"compander": 1.2},
    {"bag_size": 4, "rho": 0.5},
    {"sampler": "gradient_norm"},
    {"sampler": "gradient_norm_biased"},
    {"kept_data": 0.7, "difficulty": "el2n"},
    {"kept_data": 0.7, "difficulty": "grand"},
    {"batch_size": 128, "reference_batch": 32},
    {"ghost_batch": 8},
    {"anchor": "base", "anchor_loss": "kl"},
    {"anchor": "base", "anchor_loss": "distil", "anchor_data": "pretrain"},
    {"anchor": "base", "anchor_loss": "bandit"},
    {"anchor": "base", "anchor_loss": "l2"},
    {"start_l2": 0.01},
    {"pretrain": "barlow_twins", "pretrain_epochs": 8},
)


def with_batch_norm() -> nn.Module:
    """The net of the digits with BatchNorm after each convolution, for `ghost_batch`."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 80, 3, stride=2, padding=1), nn.BatchNorm2d(80), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(320, 40), nn.ReLU(), nn.Linear(40, 10)),
    )


def with_equal_layers() -> nn.Module:
    """A net with three layers of one shape, for `templates`."""
    hidden = [layer for _ in range(3) for layer in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))


NETS = {"ghost_batch": with_batch_norm, "templates": with_equal_layers}


class OtherNet(Digits):
    """The digits with another net."""

    def __init__(self, net: Callable[[], nn.Module]) -> None:
        super().__init__(0, [], [])
        self._net = net

    def build_model(self, generator: Generator) -> nn.Module:
        """Build the net, initialised from `generator` alone."""
        return initialised(self._net, generator)


def main() -> None:
    """Run the rounds and print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(1)
    ratios: dict[str, list[float]] = {}
    for number in range(-1, rounds):  # round -1 imports and warms up
        begun = time.monotonic()
        for name, ratio in one_round():
            if number >= 0:
                ratios.setdefault(name, []).append(ratio)
        left = (time.monotonic() - begun) * (rounds - number - 1)
        print(f"round {number} of {rounds}: {left / 60:.1f} min left", file=sys.stderr, flush=True)
    print("| technique | time | range |\n|---|---|---|")
    for name, values in ratios.items():
        middle = statistics.median(values)
        print(f"| `{name}` | {middle:.2f} | {min(values):.2f} - {max(values):.2f} |")


def one_round() -> Iterator[tuple[str, float]]:
    """Yield each technique with its time relative to a plain run right before it."""
    for values in TECHNIQUES:
        others = [OtherNet(NETS[name]) for name in values if name in NETS]
        net = others[0] if others else Digits(0, [], [])
        start = net.build_model(Generator().manual_seed(0)).state_dict()
        plain = seconds(net, start, PLAIN)
        own = seconds(net, start, replace(PLAIN, **values))  # type: ignore[arg-type]
        yield ", ".join(f"{name}: {value}" for name, value in values.items()), own / plain


def seconds(workload: Digits, start: Mapping[str, Tensor], how: Hyperparameters) -> float:
    """Return the CPU seconds of a run on train."""
    begun = time.process_time()
    fine_tune(workload, start, how, split="train")
    return time.process_time() - begun


if __name__ == "__main__":
    main()
