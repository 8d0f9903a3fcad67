"""A recommender for users who are new: embeddings of users and items, and an MLP on top.

The ratings are generated: a product of four hidden traits of user and item, and noise. The base
learns from users of long standing. The new users come in the order of their regions, so that each
of four shards of train has the ratings of one region.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from stockpot.errors import InputError
from stockpot.seeding import seeded_generator
from stockpot.workloads.protocol import Batch, Shift

OLD_USERS, NEW_USERS, ITEMS, TRAITS = 300, 400, 150, 4
# Ratings per user: `pretrain` has the old users, the other splits have different items of the new.
SIZES = {"pretrain": 40, "train": 30, "val": 5, "test": 10}


class Ratings:
    """Ratings of 150 items by 700 users.

    Args:
        seed: determines the traits, the rated items and the noise.
        val_shifts: none.
        test_shifts: none.
        noise: standard deviation of a rating's noise; that of the ratings themselves is 1.
    """

    task = "regression"

    def __init__(
        self, seed: int, val_shifts: Sequence[str], test_shifts: Sequence[str], noise: float = 0.3
    ) -> None:
        if val_shifts or test_shifts:
            raise InputError("workload: must have no shifts, got some; set them to []")
        self.metrics = {"minus_squared_error": minus_squared_error}
        self.seed, self.noise = seed, noise

    def data_digest(self) -> str:
        """Return a hash of all that the ratings are generated from."""
        described = (self.seed, self.noise, OLD_USERS, NEW_USERS, ITEMS, TRAITS, SIZES)
        return hashlib.sha256(repr(described).encode()).hexdigest()

    def build_model(self, generator: Generator) -> nn.Module:
        """Build the net with initial weights from `generator` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return Net()

    def dataset(self, split: str) -> TensorDataset:
        """Return users (N,), items (N,) and ratings (N,), in the order of the users."""
        generator = seeded_generator(self.seed, "ratings")
        num_users = OLD_USERS + NEW_USERS
        user_traits = torch.randn(num_users, TRAITS, generator=generator)
        item_traits = torch.randn(ITEMS, TRAITS, generator=generator)
        noise = torch.randn(num_users, ITEMS, generator=generator)
        ratings = user_traits @ item_traits.T / TRAITS**0.5 + self.noise * noise
        order = torch.rand(num_users, ITEMS, generator=generator).argsort(dim=1)
        first, last = (0, OLD_USERS) if split == "pretrain" else (OLD_USERS, num_users)
        begin = {"val": SIZES["train"], "test": SIZES["train"] + SIZES["val"]}.get(split, 0)
        items = order[first:last, begin : begin + SIZES[split]].flatten()
        users = torch.arange(first, last).repeat_interleave(SIZES[split])
        return TensorDataset(users, items, ratings[users, items])

    def shifts(self) -> Mapping[str, Shift]:
        """Return none."""
        return {}

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:  # noqa: ARG002
        """Return the batch itself: users and items have no augmentation."""
        return batch

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the predicted ratings; (N,)."""
        ratings: Tensor = model(batch[0], batch[1])
        return ratings

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the squared error of each rating; (N,)."""
        if label_smoothing:
            raise InputError(f"label_smoothing: must be 0 for ratings, got {label_smoothing}")
        return functional.mse_loss(outputs, batch[-1], reduction="none")


class Net(nn.Module):
    """Predicts a rating from the embeddings of user and item and from their product."""

    def __init__(self, width: int = 8, hidden: int = 32) -> None:
        super().__init__()
        self.users = nn.Embedding(OLD_USERS + NEW_USERS, width)
        self.items = nn.Embedding(ITEMS, width)
        self.hidden = nn.Linear(3 * width, hidden)
        self.head = nn.Linear(hidden, 1)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return ratings (N,) of users (N,) and items (N,)."""
        user, item = self.users(users), self.items(items)
        hidden = functional.relu(self.hidden(torch.cat([user, item, user * item], dim=1)))
        ratings: Tensor = self.head(hidden).squeeze(1)
        return ratings


def minus_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the negative squared error of each rating; (N,)."""
    return -(outputs - targets).square()
