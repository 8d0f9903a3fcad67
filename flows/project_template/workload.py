"""What models are trained and judged on: points on three spiral arms; which arm is a point on?

It runs as it is. To make it yours, put your data into `dataset`, your net into `build_model`, and
what may differ in use into `shifts`; `stockpot check` says what does not fit yet.
"""

import hashlib
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from stockpot.seeding import seeded_generator
from stockpot.workloads.protocol import Shift

SIZES = {"pretrain": 300, "train": 600, "val": 600, "test": 1000}


def accuracy(outputs, targets):
    """Return 1.0 for each example that is right, else 0.0; (N,). Higher has to be better."""
    return (outputs.argmax(dim=-1) == targets).float()


class Spirals:
    """Points in the plane (N, 2), float32, in three classes.

    Args:
        seed: of the experiment: everything random in the data has to come from it.
        val_shifts: workload.val_shifts of params.yaml.
        test_shifts: workload.test_shifts of params.yaml.
        noise: how far points are off their arm; an option of its own (workload.options).
    """

    task = "classification"  # or "regression", "language_model"

    def __init__(self, seed, val_shifts, test_shifts, noise=0.12):
        self.metrics = {"accuracy": accuracy}  # the first one is what choices use
        self.seed, self.noise = seed, noise
        self.shift_splits = dict.fromkeys(val_shifts, "val") | dict.fromkeys(test_shifts, "test")

    def data_digest(self):
        """Hash all that the data depends on. Of files: their content, or sizes and times."""
        return hashlib.sha256(repr((self.seed, self.noise, SIZES)).encode()).hexdigest()

    def build_model(self, generator):
        """Build your net, with initial weights that come from the generator alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return nn.Sequential(
                nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)
            )

    def dataset(self, split):
        """Return inputs and targets of a split; any map-style data set of (input, target) does."""
        generator = seeded_generator(self.seed, "points", split)
        arms = torch.arange(SIZES[split]) % 3
        radii = torch.rand(len(arms), generator=generator)
        angles = 5 * radii + 2 * torch.pi / 3 * arms
        points = radii[:, None] * torch.stack([angles.cos(), angles.sin()], dim=1)
        noise = self.noise * torch.randn(points.shape, generator=generator)
        return TensorDataset(points + noise * radii[:, None], arms)

    def shifts(self):
        """Return the shifts that params.yaml names, each a changed copy of its split."""
        return {
            name: Shift(split, partial(self.shifted, name, split))
            for name, split in self.shift_splits.items()
        }

    def shifted(self, name, split):
        """Return the points of a split, changed; a generator of its own for each name."""
        points, arms = self.dataset(split).tensors
        noise = torch.randn(points.shape, generator=seeded_generator(self.seed, "shift", name))
        changed = {
            "noisy": points + 0.05 * noise,
            "moved": points + torch.tensor([0.08, 0.04]),
            "turned": points @ torch.tensor([[0.97, 0.24], [-0.24, 0.97]]),
            "larger": 1.2 * points,
        }
        return TensorDataset(changed[name], arms)

    def augment(self, batch, strength, generator):
        """Change inputs at random in training; strength is in [0, 1], 0 gives the batch itself."""
        points, arms = batch
        # Drawn on the CPU, so that every device sees the same numbers.
        noise = torch.randn(points.shape, generator=generator).to(points.device)
        return (points + 0.1 * strength * noise, arms) if strength else batch

    def forward(self, model, batch):
        """Return the outputs: logits (N, 3)."""
        return model(batch[0])

    def loss(self, outputs, batch, *, label_smoothing=0.0):
        """Return the loss of each example; (N,)."""
        return functional.cross_entropy(
            outputs, batch[-1], reduction="none", label_smoothing=label_smoothing
        )
