"""A custom model and data set: an MLP that classifies breast tumours by 30 measurements of cells.

The data come with scikit-learn (569 cases, Wolberg, Mangasarian and Street 1995). Shifts are errors
of a laboratory: noisy measurements, a miscalibrated device, missing values.
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
from stockpot.workloads.metric_ranges import values_in
from stockpot.workloads.protocol import Batch, Shift

SIZES = {"pretrain": 60, "train": 200, "val": 130, "test": 179}


class Tumours:
    """569 cases, split at random.

    Args:
        seed: determines the splits and the shifted copies.
        val_shifts: names of shifts of `val`.
        test_shifts: names of shifts of `test`.
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
        """Return a hash of seed, split sizes and the version of scikit-learn, the data's source."""
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
        """Return measurements (N, 30), standardised by `pretrain`, and classes (N,)."""
        cases = load_breast_cancer()
        inputs = torch.tensor(cases.data, dtype=torch.float32)
        order = torch.randperm(len(inputs), generator=seeded_generator(self.seed, "split"))
        parts = dict(zip(SIZES, torch.split(order, list(SIZES.values())), strict=True))
        reference = inputs[parts["pretrain"]]
        scaled = (inputs - reference.mean(dim=0)) / reference.std(dim=0)
        targets = torch.tensor(cases.target)
        return TensorDataset(scaled[parts[split]], targets[parts[split]])

    def shifts(self) -> Mapping[str, Shift]:
        """Return the shifts that params.yaml names."""
        return {
            name: Shift(split, partial(self.shifted, name, split))
            for name, split in self.shift_splits.items()
        }

    def shifted(self, name: str, split: str) -> TensorDataset:
        """Return the cases of a split with measurement errors."""
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
        """Add noise to the measurements, with standard deviation `strength`."""
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


@values_in(0, 1)
def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1.0 for each case that is classified correctly, else 0.0; (N,)."""
    return (outputs.argmax(dim=-1) == targets).float()
