"""The workload: points on three spiral arms, classified by their arm.

It runs as it is. Put your data into `dataset`, your net into `build_model`, and variations of the
data that you expect in use into `shifts`; `stockpot check` says what does not fit yet.
"""

import hashlib
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from stockpot.seeding import seeded_generator
from stockpot.workloads.metric_ranges import values_in
from stockpot.workloads.protocol import Shift

SIZES = {"pretrain": 300, "train": 600, "val": 600, "test": 1000}


@values_in(0, 1)  # with a highest value, choices need not evaluate all of val
def accuracy(outputs, targets):
    """Return 1.0 for each correct example, else 0.0; (N,). Higher must be better."""
    return (outputs.argmax(dim=-1) == targets).float()


class Spirals:
    """Points in the plane (N, 2), float32, in three classes.

    Args:
        seed: the experiment's seed; all randomness of the data must depend on it.
        val_shifts: workload.val_shifts of params.yaml.
        test_shifts: workload.test_shifts of params.yaml.
        noise: deviation of points from their arm; from workload.options.
    """

    task = "classification"  # or "regression", "language_model"

    def __init__(self, seed, val_shifts, test_shifts, noise=0.12):
        self.metrics = {"accuracy": accuracy}  # the first one is used for choices
        self.seed, self.noise = seed, noise
        self.shift_splits = dict.fromkeys(val_shifts, "val") | dict.fromkeys(test_shifts, "test")

    def data_digest(self):
        """Hash everything that the data depends on. Of files: content, or sizes and times."""
        return hashlib.sha256(repr((self.seed, self.noise, SIZES)).encode()).hexdigest()

    def build_model(self, generator):
        """Build the net, with initial weights that depend on the generator alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return nn.Sequential(
                nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)
            )

    def dataset(self, split):
        """Return a split as any map-style dataset of (input, target)."""
        generator = seeded_generator(self.seed, "points", split)
        arms = torch.arange(SIZES[split]) % 3
        radii = torch.rand(len(arms), generator=generator)
        angles = 5 * radii + 2 * torch.pi / 3 * arms
        points = radii[:, None] * torch.stack([angles.cos(), angles.sin()], dim=1)
        noise = self.noise * torch.randn(points.shape, generator=generator)
        return TensorDataset(points + noise * radii[:, None], arms)

    def shifts(self):
        """Return the shifts that params.yaml names, each a modified copy of its split."""
        return {
            name: Shift(split, partial(self.shifted, name, split))
            for name, split in self.shift_splits.items()
        }

    def shifted(self, name, split):
        """Return modified points of a split; each name has its own generator."""
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
        """Modify inputs at random in training; strength is in [0, 1], 0 returns the batch."""
        points, arms = batch
        # Drawn on the CPU, so that all devices get the same numbers.
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
