"""How many examples does greedy selection evaluate, and does it choose the same?

    python benchmarks/stopping.py digits [SIZE]         SIZE (32) ingredients of the digits
    python benchmarks/stopping.py accuracies            made-up ingredients of 70 to 99 % accuracy
    python benchmarks/stopping.py risk [SIMULATIONS]    racing, 1,000 selections each
    python benchmarks/stopping.py ties [SIMULATIONS]    racing against an equal soup, 1,000 times

`naive` evaluates every candidate on all of val. `limit` is the fewest examples that prove the same
decisions, with the order of examples that an oracle chooses for each candidate. Counts are
examples that pass through a model, so they do not depend on the machine.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from library_run import ThisProcess, plan_in, run_library
from scipy.special import expit
from torch import Tensor

from stockpot.experiment.jobs.candidate_soups import CandidateSoups
from stockpot.scoring.val_blocks import in_blocks
from stockpot.soups.selection.candidates import Blocks, Candidates, Selection
from stockpot.soups.selection.greedy import greedy, greedy_steps
from stockpot.statistics.sequential import FallTest
from stockpot.statistics.values import Floats
from stockpot.storage.ranking import rank

PARAMS = """
base: {{epochs: 60}}
sweep:
  size: {size}
  space:
    learning_rate: {{log_uniform: [1.0e-4, 3.0e-2]}}
    epochs: {{integer: [2, 10]}}
    batch_size: 32
soups: [{{name: greedy, select: greedy}}]
"""
RACES = ((1000, False, 0.05), (1000, True, 0.05), (1000, True, 0.2), (10000, True, 0.05))
"""Numbers of examples, whether values are probabilities, stated risks."""
HEAD = f"{'':34s} {'K':>4s} {'N':>6s} {'accepted':>8s} {'naive / stopped':>15s} {'limit':>7s}"


@dataclass
class Counted:
    """Candidates whose evaluated examples are counted, and the choice of whole evaluations."""

    whole: Candidates
    evaluated: int = 0
    limit: int = field(init=False, default=0)
    chosen: Sequence[int] = field(init=False)

    def __post_init__(self) -> None:
        steps = greedy_steps(self.whole.order, self.whole.score)
        self.chosen = [step.ingredient for step in steps if step.accepted]
        best = 0.0
        for step in steps:
            assert step.values is not None
            self.limit += len(step.values) if step.accepted else fewest(step.values, best)
            best = step.best
        self.size = len(steps[0].values)  # type: ignore[arg-type]

    @property
    def naive(self) -> int:
        """The examples of whole evaluations."""
        return self.size * len(self.whole.order)

    def select(self, risk: float = 0.0) -> Selection:
        """Select greedily, and count."""
        self.evaluated = 0
        return greedy(replace(self.whole, blocks=self._blocks), risk=risk)

    def _blocks(self, is_random: bool) -> Blocks:
        assert self.whole.blocks is not None
        blocks = self.whole.blocks(is_random)

        def values(members: Sequence[int], shares: Sequence[float]) -> Iterator[Tensor]:
            for found in blocks.values(members, shares):
                self.evaluated += len(found)
                yield found

        return replace(blocks, values=values)


def fewest(values: Tensor, best: float) -> int:
    """Return the fewest examples of a rejected candidate that prove it; values are in [0, 1]."""
    right_at_most = values.numel() - torch.arange(1, values.numel() + 1)
    wrong_first = right_at_most.double() + values.sort().values.cumsum(0)
    return int((wrong_first / values.numel() < best).nonzero()[0]) + 1


def made_up(
    count: int, size: int, accuracy: float, seed: int, noise: float = 1.0, graded: bool = False
) -> Candidates:
    """Return ingredients with a margin per example, and soups with the mean of the margins.

    A margin is the example's difficulty, the ingredient's quality, and independent noise, which
    averages out in a soup, as the noise of fine-tuning does.
    """
    draw = np.random.default_rng(seed)
    easy = draw.normal(size=size)
    own = easy + draw.normal(0, 0.15, (count, 1)) + noise * draw.normal(size=(count, size))
    own -= np.quantile(own, 1 - accuracy)

    def values(margins: Floats) -> Tensor:
        return torch.from_numpy(expit(margins) if graded else (margins > 0).astype(float))

    of_each = values(own)
    scores = of_each.mean(dim=1).tolist()

    def score(members: Sequence[int]) -> Tensor:
        return values(own[[*members]].mean(axis=0))

    def blocks(is_random: bool) -> Blocks:
        order = torch.from_numpy(draw.permutation(size))
        indices = in_blocks(order if is_random else of_each.sum(dim=0).argsort(stable=True))
        return Blocks(indices, 0.0, 1.0, lambda m, _: (score(m)[block] for block in indices))

    best_first = sorted(range(count), key=lambda one: -scores[one])
    return Candidates(best_first, scores, score, blocks=blocks)


def print_row(name: str, counted: Counted) -> None:
    """Select, check the choice, and print the ratios."""
    assert [*counted.select().members] == counted.chosen
    ratio, limit = counted.naive / counted.evaluated, counted.naive / counted.limit
    size = f"{len(counted.whole.order):4d} {counted.size:6d} {len(counted.chosen):8d}"
    print(f"{name:34s} {size} {ratio:15.1f} {limit:7.1f}", flush=True)


def digits(size: int) -> None:
    """Count on a sweep of the digits."""
    with tempfile.TemporaryDirectory() as folder:
        params = Path(folder) / "params.yaml"
        params.write_text(PARAMS.format(size=size))
        plan = plan_in(Path(folder), params, ())
        run_library(plan, ThisProcess(), last="sweep")
        [job] = plan.soup_jobs()
        soups = CandidateSoups(job, "cpu")
        blocks = partial(soups.blocks, in_order=lambda members: members)
        order = rank(job.ingredients, job.metric)
        scores = [model.scores[job.metric] for model in job.ingredients]
        print(HEAD)
        print_row("digits", Counted(Candidates(order, scores, soups.score, blocks=blocks)))


def accuracies() -> None:
    """Count on made-up ingredients."""
    print(HEAD)
    for accuracy in (0.7, 0.8, 0.9, 0.95, 0.99):
        for size in (400, 2000, 10000):
            for noise in (0.3, 1.0):
                name = f"{accuracy:.0%} right, noise {noise} of difficulty"
                print_row(name, Counted(made_up(64, size, accuracy, seed=1, noise=noise)))


def risk(simulations: int) -> None:
    """Count choices that racing changes, and what it saves.

    The values are right or wrong, or the probability of the target, for which the exact bound is
    far from the values.
    """
    print(f"{'':34s} {'stated':>8s} {'observed':>9s} {'naive / raced':>14s} {'/ stopped':>10s}")
    for size, graded, stated in RACES:
        wrong, naive, raced, stopped = 0, 0, 0, 0
        for seed in range(simulations):
            counted = Counted(made_up(8, size, 0.9, seed=seed, graded=graded))
            assert [*counted.select().members] == counted.chosen
            stopped += counted.evaluated
            wrong += [*counted.select(stated).members] != counted.chosen
            naive, raced = naive + counted.naive, raced + counted.evaluated
        name = f"8 ingredients, N {size}, {'probabilities' if graded else '90% right'}"
        print(
            f"{name:34s} {stated:8.3f} {wrong / simulations:9.3f} {naive / raced:14.2f} "
            f"{naive / stopped:10.2f}",
            flush=True,
        )


def ties(simulations: int) -> None:
    """Count rejected candidates that score exactly as the soup, where the risk is largest."""
    draw = np.random.default_rng(0)
    for changed, stated in ((0.02, 0.05), (0.2, 0.05), (0.2, 0.2)):
        tied = np.zeros(2000)
        half = int(changed * len(tied) / 2)
        tied[:half], tied[half : 2 * half] = 1, -1
        rejected = [
            FallTest(len(tied), width=1, risk=stated).rejects(draw.permutation(tied))
            for _ in range(simulations)
        ]
        name = f"a tie, {changed:.0%} of examples differ"
        print(f"{name:34s} {stated:8.3f} {np.mean(rejected):9.3f}", flush=True)


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    given = [int(number) for number in numbers]
    match what:
        case "digits":
            digits(*given or [32])
        case "accuracies":
            accuracies()
        case "ties":
            ties(*given or [1000])
        case "risk":
            risk(*given or [1000])
