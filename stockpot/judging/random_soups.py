"""Random soups, the baseline of every choice; importing this module imports no torch.

A soup that was chosen on val should beat the mean of ingredients that were drawn by lot (Yang et
al. 2020, NAS evaluation is frustratingly hard, https://arxiv.org/abs/1912.12522, section 3).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stockpot.seeding import derive_seed
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from torch import Tensor

Pool = Literal["matched", "any", "dirichlet"]
"""As many ingredients as a soup took; any of the subsets; all of them, with any coefficients."""


@dataclass(frozen=True, slots=True)
class RandomSoupsJob:
    """One pool of random soups. Soups of equal size share one.

    Attributes:
        root: the project root.
        workload: what they are measured on.
        ingredients: what they are drawn from; the order is without effect.
        pool: how.
        size: number of ingredients of each; None but for `matched`.
        draws: how many soups.
        seed: of the draw.
    """

    root: Path
    workload: WorkloadSpec
    ingredients: tuple[Model, ...]
    pool: Pool
    size: int | None
    draws: int
    seed: int

    @property
    def name(self) -> str:
        """What the pool is called."""
        of = {"matched": f"{self.size} ingredients", "any": "any size", "dirichlet": "any mixture"}
        return f"random soups of {of[self.pool]}"

    @property
    def ordered(self) -> list[Model]:
        """The ingredients in the order of their digests."""
        return sorted(self.ingredients, key=lambda model: model.digest)

    @property
    def coefficients(self) -> list[tuple[float, ...]]:
        """Of each soup: the coefficients of the ingredients in the order of their digests."""
        drawn = random.Random(derive_seed(self.seed, "random soups", self.pool, self.size or 0))
        return [self._draw(drawn) for _ in range(self.draws)]

    @property
    def merges(self) -> list[list[tuple[str, float]]]:
        """Of each soup: the digests and coefficients of its ingredients."""
        digests = [model.digest for model in self.ordered]
        return [
            [(digest, value) for digest, value in zip(digests, row, strict=True) if value]
            for row in self.coefficients
        ]

    def _draw(self, drawn: random.Random) -> tuple[float, ...]:
        places = range(len(self.ingredients))
        if self.pool == "dirichlet":
            # Of the distribution Dirichlet(1, ..., 1): all coefficients are equally likely.
            shares = [drawn.expovariate(1.0) for _ in places]
            return tuple(share / sum(shares) for share in shares)
        if self.pool == "matched":
            chosen = set(drawn.sample(places, self.size or 1))
        else:
            bits = drawn.randrange(1, 2 ** len(places))
            chosen = {place for place in places if bits >> place & 1}
        return tuple(1 / len(chosen) if place in chosen else 0.0 for place in places)


def random_soups_jobs(
    root: Path,
    workload: WorkloadSpec,
    ingredients: Sequence[Model],
    soups: Sequence[Model],
    *,
    draws: int,
    seed: int,
) -> list[RandomSoupsJob]:
    """List the pools that soups are compared with.

    Args:
        root: the project root.
        workload: what they are measured on.
        ingredients: what the soups could have been made of.
        soups: soups and tuned soups.
        draws: random soups a pool; 0 for no pools.
        seed: of the draws.
    """
    if not soups or not draws:
        return []
    any_size = RandomSoupsJob(root, workload, tuple(ingredients), "any", None, draws, seed)
    sizes = sorted({num_used(soup) for soup in soups})
    jobs = [*(replace(any_size, pool="matched", size=size) for size in sizes), any_size]
    is_tuned = any(soup.kind == "tuned" for soup in soups)
    return [*jobs, *([replace(any_size, pool="dirichlet")] if is_tuned else [])]


def num_used(soup: Model) -> int:
    """Return how many ingredients a soup was merged from."""
    return sum(1 for value in soup.details["coefficients"].values() if value != 0)


def measure_random_soups(job: RandomSoupsJob, device: str) -> None:
    """Measure the soups of a pool, unless that is kept already; runs in a worker process."""
    from stockpot.judging.merged_values import keep_values
    from stockpot.merging.stack import IngredientStack
    from stockpot.soups.preparation.recalibration import Recalibration
    from stockpot.storage.checkpoints import load_tensors, verify

    @cache
    def recalibrated() -> Recalibration:
        return Recalibration(job.workload.build(), device)

    @cache
    def stack() -> IngredientStack:
        states = [load_tensors(verify(job.root, model.checkpoint)) for model in job.ordered]
        return IngredientStack(states, device)

    def weights(place: int) -> dict[str, Tensor]:
        row = rows[place]
        used = [position for position, value in enumerate(row) if value]
        merged = stack().merge(row) if job.pool == "dirichlet" else stack().mean_of(used)
        return recalibrated()(merged, len(used))

    rows = job.coefficients
    keep_values(job.root, job.workload, job.merges, weights, device)
