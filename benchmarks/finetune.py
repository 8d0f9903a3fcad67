"""The overhead of fine-tuning with stockpot over a bare PyTorch loop with the same steps.

Both train the digits' net on train alternately: 12 epochs in batches of 16, AdamW, augmentation of
0.7. The bare loop uses one generator, saves no state to resume from and checks nothing. Seconds are
CPU seconds of one core, so that other work on the machine has little effect.

    python benchmarks/finetune.py [ROUNDS]

Limit: a factor of 1; a factor below it is noise.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.partial_state import PartialState
from stockpot.workloads.digits import Digits

HOW = Hyperparameters(
    learning_rate=8e-3,
    weight_decay=0.0,
    epochs=12,
    batch_size=16,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.7,
    seed=0,
)
WORKLOAD = Digits(0, [], [])


def main() -> None:
    """Run the rounds and print the figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    torch.set_num_threads(1)
    start = WORKLOAD.build_model(torch.Generator().manual_seed(0)).state_dict()
    _bare(start), _ours(start)  # warm
    factors = []
    print(f"{'round':>5} {'bare s':>8} {'stockpot s':>11}")
    for number in range(rounds):
        bare, ours = _bare(start), _ours(start)
        factors.append(ours / bare)
        print(f"{number:>5} {bare:>8.2f} {ours:>11.2f}", flush=True)
    shown = ", ".join(f"{factor:.3f}" for factor in factors)
    print(f"\nfactor: {statistics.median(factors):.3f}     (each round: {shown})")


def _ours(start: dict[str, torch.Tensor]) -> float:
    """Time stockpot's loop, which saves its state every 30 seconds."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        partial = PartialState(Path(folder) / "state.safetensors")
        fine_tune(WORKLOAD, start, HOW, split="train", partial=partial)
        return time.process_time() - begin


def _bare(start: dict[str, torch.Tensor]) -> float:
    """Time a hand-written loop."""
    begin = time.process_time()
    generator = torch.Generator().manual_seed(0)
    model = WORKLOAD.build_model(generator)
    model.load_state_dict(start)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0, fused=True)
    images, targets = WORKLOAD.dataset("train").tensors
    step, total = 0, HOW.epochs * -(-len(images) // HOW.batch_size)
    for _ in range(HOW.epochs):
        for indices in torch.randperm(len(images), generator=generator).split(HOW.batch_size):
            batch = (images[indices], targets[indices])
            batch = WORKLOAD.augment(batch, HOW.augmentation, generator)
            for group in optimizer.param_groups:
                group["lr"] = HOW.learning_rate * min(1.0, (step + 1) / (0.1 * total))
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            step += 1
    return time.process_time() - begin


if __name__ == "__main__":
    main()
