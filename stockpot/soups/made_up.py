"""Ingredients with made-up scores, for the contract checks of selections and searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from stockpot.soups.selection.candidates import Blocks, WeightedCandidates
from stockpot.statistics.values import Floats

T = TypeVar("T")
_NUM_MODELS, _NUM_EXAMPLES = 6, 200


class MadeUpModels:
    """Points near the origin as models, scored by their distance to examples.

    Attributes:
        models: the M points; (M, 3), float64.
        scores: the score of each model, by position; higher is better.
        order: positions of the models, best score first.
        names: of the models, by position.
    """

    def __init__(self, chosen: Sequence[int]) -> None:
        """Take some of six models, in this order."""
        generator = torch.Generator().manual_seed(0)
        shape = (_NUM_MODELS + _NUM_EXAMPLES, 3)
        points = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.names = [f"ingredient-{number:02d}" for number in chosen]
        self.models, self._examples = points[list(chosen)], points[_NUM_MODELS:] / 4
        self.scores = [self.values_of(model).mean().item() for model in self.models]
        self.order = sorted(range(len(self.scores)), key=lambda place: -self.scores[place])

    @property
    def candidates(self) -> WeightedCandidates:
        """The models and the scores of their soups, for a selection."""
        return WeightedCandidates(
            self.order,
            self.scores,
            self.score_members,
            self.similarities,
            self.group_scores,
            score_weighted=self.score_weighted,
            inner_products=self.inner_products,
            blocks=self.blocks,
            names=self.names,
        )

    def values_of(self, model: Tensor) -> Tensor:
        """Return the value of each example, (N,), for a point."""
        return (-(model - self._examples).square().sum(dim=1)).exp()

    def score_members(self, members: Sequence[int]) -> Tensor:
        """Return the value of each example, (N,), for the mean of some models."""
        return self.values_of(self.models[list(members)].mean(dim=0))

    def blocks(self, is_random: bool) -> Blocks:
        """Return how `score_members` is computed in blocks, in order or in random order."""
        order = torch.arange(_NUM_EXAMPLES)
        if is_random:
            order = torch.randperm(_NUM_EXAMPLES, generator=torch.Generator().manual_seed(0))
        indices = torch.split(order, 50)

        def values(members: Sequence[int], shares: Sequence[float]) -> Iterator[Tensor]:
            equal = [1.0] * len(members)
            found = self.score_weighted(members, shares or equal)
            return (found[block] for block in indices)

        return Blocks(indices, 0.0, 1.0, values)

    def score_weighted(self, members: Sequence[int], coefficients: Sequence[float]) -> Tensor:
        """Return the value of each example, (N,), for a weighted mean of some models."""
        shares = torch.tensor(coefficients, dtype=torch.float64)
        return self.values_of(shares @ self.models[list(members)] / shares.sum())

    def group_scores(self) -> dict[str, list[float]]:
        """Return the score of each model on the examples of each octant."""
        octants = (self._examples > 0).long() @ torch.tensor([1, 2, 4])
        return {
            str(octant): [self.values_of(m)[octants == octant].mean().item() for m in self.models]
            for octant in torch.unique(octants).tolist()
        }

    def similarities(self) -> Floats:
        """Return the cosines (M, M) between the models."""
        units = self.models / self.models.norm(dim=1, keepdim=True)
        cosines: Floats = (units @ units.T).numpy()
        return cosines

    def inner_products(self) -> Floats:
        """Return the inner products (M, M) of the models."""
        products: Floats = (self.models @ self.models.T).numpy()
        return products


def run_twice(run: Callable[[], T]) -> tuple[T, T]:
    """Return the results of two runs with different global random states."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = run()
        torch.manual_seed(2)
        return first, run()
