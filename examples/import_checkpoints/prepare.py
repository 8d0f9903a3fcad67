"""Write runs/: checkpoints in common formats, from a training loop without stockpot.

    python prepare.py [--quick]

Six fine-tuned nets in six formats, one that diverged, and one for another task.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Generator, Tensor, nn
from torch.nn import functional

from stockpot.workloads.digits import Digits

RUNS = Path(__file__).parent / "runs"
EPOCHS = 2 if "--quick" in sys.argv else 12
RATES = (0.004, 0.006, 0.008, 0.003, 0.005, 0.002)
RANK = 4  # of the adapter

State = dict[str, Tensor]


def main() -> None:
    """Train all nets, in about ten seconds, and save each in another format."""
    torch.manual_seed(0)
    digits = Digits(seed=0, val_shifts=[], test_shifts=[])
    net = digits.build_model(Generator().manual_seed(0))
    base = train(net, digits, "pretrain", 0.003, 5 * EPOCHS)
    tuned = []
    for rate in RATES:
        net.load_state_dict(base)
        tuned.append(train(net, digits, "train", rate, EPOCHS))
    RUNS.mkdir(exist_ok=True)
    save_file(base, RUNS / "base.safetensors")
    save_all(base, tuned)


def train(net: nn.Module, digits: Digits, split: str, rate: float, epochs: int) -> State:
    """Train all weights of a net on one split and return them."""
    images, labels = digits.dataset(split).tensors
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.0)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(16):
            optimizer.zero_grad()
            functional.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def save_all(base: State, tuned: list[State]) -> None:
    """Save each net in another format, and some of their hyperparameters next to them."""
    save_file(tuned[0], RUNS / "run-1.safetensors")
    (RUNS / "run-1.json").write_text(json.dumps({"learning_rate": RATES[0], "epochs": EPOCHS}))
    torch.save(tuned[1], RUNS / "run-2.pt")
    save_shards(tuned[2], RUNS / "run-3")
    wrapped = {f"model.{name}": tensor for name, tensor in tuned[3].items()}
    torch.save({"epoch": EPOCHS, "state_dict": wrapped}, RUNS / "run-4.ckpt")  # as Lightning does
    save_file({n: t.bfloat16() for n, t in tuned[4].items()}, RUNS / "run-5.safetensors")
    save_adapter(base, tuned[5], RUNS / "run-6")
    save_file(tuned[0] | {"head.bias": torch.full((10,), torch.nan)}, RUNS / "run-7.safetensors")
    save_file(tuned[0] | {"head.weight": torch.zeros(26, 40)}, RUNS / "run-8.safetensors")
    with (RUNS / "hyperparameters.csv").open("w", newline="") as file:
        rows = [(f"run-{number}", RATES[number - 1], EPOCHS) for number in range(2, 7)]
        csv.writer(file).writerows([("run", "learning_rate", "epochs"), *rows])


def save_shards(state: State, folder: Path) -> None:
    """Save weights as a Hugging Face folder in two shards with an index."""
    folder.mkdir(exist_ok=True)
    names = sorted(state)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    weight_map = {}
    for number, half in enumerate(halves, start=1):
        shard = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: state[name] for name in half}, folder / shard)
        weight_map |= dict.fromkeys(half, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def save_adapter(base: State, tuned: State, folder: Path) -> None:
    """Save the change of the hidden layer as a LoRA adapter, in PEFT's format."""
    folder.mkdir(exist_ok=True)
    layer = "features.5"
    left, values, right = torch.linalg.svd(tuned[f"{layer}.weight"] - base[f"{layer}.weight"])
    prefix = f"base_model.model.{layer}"
    factors = {
        f"{prefix}.lora_A.weight": right[:RANK].contiguous(),
        f"{prefix}.lora_B.weight": (left[:, :RANK] * values[:RANK]).contiguous(),
    }
    save_file(factors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": [layer]}
    (folder / "adapter_config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main()
