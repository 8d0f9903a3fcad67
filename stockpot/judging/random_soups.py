"""Random soups, a baseline for selection; importing this module imports no torch.

A soup that was selected on val should beat the mean of randomly drawn ingredients.

Source: Yang et al. 2020, NAS evaluation is frustratingly hard, https://arxiv.org/abs/1912.12522,
section 3.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stockpot.seeding import derive_seed
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from torch import Tensor

Pool = Literal["matched", "any", "dirichlet"]
"""Subsets of the same size as a soup; subsets of any size; all ingredients, any coefficients."""


@dataclass(frozen=True, slots=True)
class RandomSoupsJob:
    """Job that measures one pool of random soups; soups of equal size share a pool.

    Attributes:
        root: the project root.
        workload: what the random soups are measured on.
        ingredients: which ingredients are drawn from; their order has no effect.
        pool: the distribution.
        size: number of ingredients per soup in `matched`, else None.
        draws: number of soups.
        seed: of the draws.
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
        """The name of the pool."""
        of = {"matched": f"{self.size} ingredients", "any": "any size", "dirichlet": "any mixture"}
        return f"random soups of {of[self.pool]}"

    @property
    def ordered(self) -> list[Model]:
        """The ingredients in the order of their digests."""
        return sorted(self.ingredients, key=lambda model: model.digest)

    @property
    def coefficients(self) -> list[tuple[float, ...]]:
        """The coefficients of each soup, in the order of the ingredients' digests."""
        drawn = random.Random(derive_seed(self.seed, "random soups", self.pool, self.size or 0))
        return [self._draw(drawn) for _ in range(self.draws)]

    @property
    def merges(self) -> list[list[tuple[str, float]]]:
        """The digests and coefficients of each soup's ingredients."""
        digests = [model.digest for model in self.ordered]
        return [
            [(digest, value) for digest, value in zip(digests, row, strict=True) if value]
            for row in self.coefficients
        ]

    def _draw(self, drawn: random.Random) -> tuple[float, ...]:
        places = range(len(self.ingredients))
        if self.pool == "dirichlet":
            # Dirichlet(1, ..., 1): uniform on the simplex.
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
    """Return the pools that soups are compared with.

    Args:
        root: the project root.
        workload: what the random soups are measured on.
        ingredients: the ingredients that soups may use.
        soups: soups and tuned soups.
        draws: random soups per pool; 0 for no pools.
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
    """Return the number of ingredients in a soup."""
    return sum(1 for value in soup.details["coefficients"].values() if value != 0)


def measure_random_soups(job: RandomSoupsJob, device: str) -> None:
    """Measure the soups of a pool, unless they are cached; runs in a worker process."""
    from stockpot.judging.merged_values import cache_values
    from stockpot.merging.stack import IngredientStack
    from stockpot.soups.preparation.finishing import Finishing
    from stockpot.storage.checkpoints import load_tensors, verify

    def merged() -> Iterator[tuple[dict[str, Tensor], int]]:
        states = [load_tensors(verify(job.root, model.checkpoint)) for model in job.ordered]
        stack = IngredientStack(states, device)
        aligned = states if any(model.is_aligned for model in job.ingredients) else ()
        finished = Finishing(job.workload.build(), device, aligned)
        for row in job.coefficients:
            used = [position for position, value in enumerate(row) if value]
            if job.pool == "dirichlet":
                soup = stack.merge(row, reuse=True)
            else:
                soup = stack.mean_of(used, reuse=True)
            shares = [row[place] for place in used]
            if finished.repairs(shares):
                yield finished(soup, [states[place] for place in used], shares), 1
            else:
                yield soup, len(used)

    cache_values(job.root, job.workload, job.merges, merged(), device)
