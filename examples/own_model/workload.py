"""A model and data of one's own: is a breast tumour malignant? An MLP on 30 measurements of cells.

The data come with scikit-learn (569 cases, Wolberg, Mangasarian and Street 1995). Shifts are what
goes wrong in a laboratory: blurred measurements, a device that reads too high, values not taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version

import torch
from sklearn.datasets import load_breast_cancer
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from stockpot.seeding import seeded_generator
from stockpot.workloads.protocol import Batch, Shift

SIZES = {"pretrain": 60, "train": 200, "val": 130, "test": 179}


class Tumours:
    """569 cases, split by the seed.

    Args:
        seed: fixes which case is in which split, and the shifted copies.
        val_shifts: changes of `val`, by name.
        test_shifts: changes of `test`, by name.
        hidden: width of the net's two hidden layers.
    """

    task = "classification"

    def __init__(
        self, seed: int, val_shifts: Sequence[str], test_shifts: Sequence[str], hidden: int = 64
    ) -> None:
        self.metrics = {"accuracy": accuracy}
        self.seed, self.hidden = seed, hidden
        self.shift_splits = dict.fromkeys(val_shifts, "val") | dict.fromkeys(test_shifts, "test")

    def data_digest(self) -> str:
        """Hash what the splits depend on; the data are those of the installed scikit-learn."""
        described = (self.seed, SIZES, version("scikit-learn"))
        return hashlib.sha256(repr(described).encode()).hexdigest()

    def build_model(self, generator: Generator) -> nn.Module:
        """Build the MLP with initial weights from `generator` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return nn.Sequential(
                nn.Linear(30, self.hidden),
                nn.ReLU(),
                nn.Linear(self.hidden, self.hidden),
                nn.ReLU(),
                nn.Linear(self.hidden, 2),
            )

    def dataset(self, split: str) -> TensorDataset:
        """Return measurements (N, 30), scaled as in `pretrain`, and classes (N,)."""
        cases = load_breast_cancer()
        inputs = torch.tensor(cases.data, dtype=torch.float32)
        order = torch.randperm(len(inputs), generator=seeded_generator(self.seed, "split"))
        parts = dict(zip(SIZES, torch.split(order, list(SIZES.values())), strict=True))
        reference = inputs[parts["pretrain"]]
        scaled = (inputs - reference.mean(dim=0)) / reference.std(dim=0)
        targets = torch.tensor(cases.target)
        return TensorDataset(scaled[parts[split]], targets[parts[split]])

    def shifts(self) -> Mapping[str, Shift]:
        """Return the changes that params.yaml names."""
        return {
            name: Shift(split, partial(self.shifted, name, split))
            for name, split in self.shift_splits.items()
        }

    def shifted(self, name: str, split: str) -> TensorDataset:
        """Return the cases of a split with measurements that are off."""
        inputs, targets = self.dataset(split).tensors
        generator = seeded_generator(self.seed, "shift", name)
        is_missing = torch.rand(inputs.shape, generator=generator) < 0.3
        changed = {
            "blurred": inputs + torch.randn(inputs.shape, generator=generator),
            "scaled": 1.5 * inputs,
            "offset": inputs + 0.7,
            "missing": inputs.masked_fill(is_missing, 0.0),  # 0 is the mean
        }
        return TensorDataset(changed[name], targets)

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:
        """Add noise to the measurements; its deviation at strength 1 is theirs."""
        if strength == 0:
            return batch
        inputs, targets = batch
        noise = torch.randn(inputs.shape, generator=generator).to(inputs.device)
        return inputs + strength * noise, targets

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits; (N, 2)."""
        logits: Tensor = model(batch[0])
        return logits

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the cross entropy of each case; (N,)."""
        return functional.cross_entropy(
            outputs, batch[-1], reduction="none", label_smoothing=label_smoothing
        )


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1.0 for each case that is told right, else 0.0; (N,)."""
    return (outputs.argmax(dim=-1) == targets).float()
