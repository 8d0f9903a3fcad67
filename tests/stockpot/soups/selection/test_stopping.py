from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.errors import InputError
from stockpot.soups.selection.beam import beam
from stockpot.soups.selection.candidates import (
    Blocks,
    Candidates,
    Step,
    Stopped,
    WeightedCandidates,
)
from stockpot.soups.selection.greedy import greedy, greedy_steps
from stockpot.soups.selection.registry import SELECTIONS
from stockpot.soups.selection.stopping import values_or_stopped

NAN, INF = math.nan, math.inf


class Problem:
    """Ingredients whose soups have given or random val values, and a count of what is computed."""

    def __init__(
        self,
        count: int,
        size: int,
        draw: Callable[[torch.Generator], Tensor],
        bounds: tuple[float, float] = (0.0, 1.0),
        block: int = 4,
        seed: int = 0,
    ) -> None:
        self.size, self.draw, self.seed, self.bounds = size, draw, seed, bounds
        self.order = range(count)
        generator = torch.Generator().manual_seed(seed)
        self.indices = [
            part.sort().values for part in torch.randperm(size, generator=generator).split(block)
        ]
        self.evaluated = 0

    def score(self, members: Sequence[int], shares: Sequence[float] = ()) -> Tensor:
        """Return values that depend on the members and their shares alone."""
        code = sum(2**member for member in members)
        code += sum(
            round(720 * share) * 10**member for member, share in zip(members, shares, strict=False)
        )
        generator = torch.Generator().manual_seed(1000 * self.seed + code)
        return self.draw(generator)

    def blocks(self, is_random: bool) -> Blocks:
        """Return the same values in blocks."""
        del is_random  # they are random as they are

        def values(members: Sequence[int], shares: Sequence[float]) -> Iterator[Tensor]:
            whole = self.score(members, shares)
            for block in self.indices:
                self.evaluated += len(block)
                yield whole[block]

        return Blocks(self.indices, *self.bounds, values)

    @property
    def candidates(self) -> WeightedCandidates:
        """The argument of a selection."""
        scores = [0.0] * len(self.order)
        return WeightedCandidates(
            self.order, scores, self.score, score_weighted=self.score, blocks=self.blocks
        )


def _right(share: float, size: int) -> Callable[[torch.Generator], Tensor]:
    return lambda generator: (torch.rand(size, generator=generator) < share).double()


def _minus_losses(size: int, nan: float = 0.0) -> Callable[[torch.Generator], Tensor]:
    def draw(generator: torch.Generator) -> Tensor:
        losses = -torch.rand(size, generator=generator, dtype=torch.float64).log()
        broken = torch.rand(size, generator=generator) < nan
        return -losses.where(~broken, NAN)

    return draw


def _thirds(size: int) -> Callable[[torch.Generator], Tensor]:
    """Values with few sums, so that many means are equal or differ in the last bits."""
    return lambda generator: torch.randint(0, 4, (size,), generator=generator).double() / 3


def _decisions(steps: Sequence[Step]) -> list[tuple[int, bool, float]]:
    # NaN is not equal to itself
    return [(step.ingredient, step.accepted, repr(step.best)) for step in steps]


@settings(max_examples=300)
@given(
    size=st.integers(1, 40),
    count=st.integers(1, 8),
    block=st.integers(1, 16),
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["accuracy", "all right", "all wrong", "thirds", "losses", "nan"]),
)
def test_decisions_and_scores_are_those_of_whole_evaluations(
    size: int, count: int, block: int, seed: int, kind: str
) -> None:
    draw, bounds = {
        "accuracy": (_right(0.8, size), (0.0, 1.0)),
        "all right": (_right(1.1, size), (0.0, 1.0)),
        "all wrong": (_right(-0.1, size), (0.0, 1.0)),
        "thirds": (_thirds(size), (0.0, 1.0)),
        "losses": (_minus_losses(size), (-INF, 0.0)),
        "nan": (_minus_losses(size, 0.02), (-INF, 0.0)),
    }[kind]
    problem = Problem(count, size, draw, bounds, block, seed)

    whole = greedy_steps(problem.order, problem.score)
    chosen = greedy(problem.candidates)

    assert chosen.members == [step.ingredient for step in whole if step.accepted]
    assert _decisions(chosen.steps) == _decisions(whole)
    for step, other in zip(chosen.steps, whole, strict=True):
        if step.stopped:
            assert other.score is not None
            assert step.stopped.at_most < step.best
            assert not other.score > step.stopped.at_most  # it may be NaN
        else:
            assert step.values is not None
            assert other.values is not None
            assert torch.equal(step.values.nan_to_num(7), other.values.nan_to_num(7))
    assert problem.evaluated <= size * count


STOPPING: dict[str, dict[str, int]] = {
    "backward_elimination": {},
    "beam": {"width": 3},
    "greedy_restarts": {"orders": 3},
    "greedy_with_replacement": {"additions": 4},
}


@pytest.mark.parametrize("name", STOPPING)
@pytest.mark.parametrize("kind", ["accuracy", "thirds", "nan"])
def test_other_selections_choose_as_with_whole_evaluations(name: str, kind: str) -> None:
    choose, options = SELECTIONS[name].choose, STOPPING[name]
    for seed in range(15):
        size, count = 40 + seed, 1 + seed % 6
        draws = {
            "accuracy": (_right(0.8, size), (0.0, 1.0)),
            "thirds": (_thirds(size), (0.0, 1.0)),
            "nan": (_minus_losses(size, 0.002), (-INF, 0.0)),
        }
        problem = Problem(count, size, *draws[kind], block=7, seed=seed)

        whole = choose(replace(problem.candidates, blocks=None), **options)

        assert choose(problem.candidates, **options).members == whole.members
        assert choose(problem.candidates, **options).coefficients == whole.coefficients


def test_a_beam_stops_soups_that_would_not_be_followed() -> None:
    values = {(0,): [1.0, 1, 1, 0], (1,): [0.0, 0, 1, 1], (0, 1): [0.0, 1, 1, 1]}
    problem = Problem(2, 4, lambda _: torch.zeros(4), block=1)
    problem.indices = [torch.tensor([place]) for place in range(4)]
    problem.score = _table(values)  # type: ignore[method-assign]

    assert beam(problem.candidates, width=1).members == [0, 1]
    assert problem.evaluated == 8
    assert beam(problem.candidates, width=2).members == [0, 1]
    # 0 and nothing are followed. 0 and 1 are evaluated, which leaves 1 to reach 3 of 4, and it
    # cannot after 2 examples.
    assert problem.evaluated == 8 + 4 + 4 + 2


def _table(rows: dict[tuple[int, ...], list[float]]) -> Callable[..., Tensor]:
    return lambda members, _=(): torch.tensor(rows[tuple(members)], dtype=torch.float64)


def test_the_count_of_evaluated_examples_by_hand() -> None:
    rows = {
        (0,): [0, 0, 1, 1, 1, 1, 1, 1],  # 6 right
        (0, 1): [0, 0, 0, 1, 1, 1, 1, 1],  # 5 can be right after the third example: stops at 4
        (0, 2): [1, 0, 1, 1, 1, 1, 1, 1],  # 7: accepted, all 8
        (0, 2, 3): [0, 0, 1, 1, 1, 1, 1, 1],  # at most 6 after the first block: stops at 2
        (0, 2, 4): [1, 0, 1, 1, 1, 1, 1, 1],  # a tie: accepted, all 8
    }
    problem = Problem(5, 8, _right(0, 8))
    problem.indices = list(torch.arange(8).split(2))
    problem.score = _table(rows)  # type: ignore[method-assign]

    chosen = greedy(problem.candidates)

    assert chosen.members == [0, 2, 4]
    assert problem.evaluated == 8 + 4 + 8 + 2 + 8
    assert [step.stopped for step in chosen.steps] == [
        None,
        Stopped(5 / 8, 4, 8),
        None,
        Stopped(6 / 8, 2, 8),
        None,
    ]


def test_losses_stop_once_their_sum_is_too_large() -> None:
    values = {(0,): [-1.0, -1, -1, -1], (0, 1): [-3.0, -1.5, 0, 0]}
    problem = Problem(2, 4, _right(0, 4), (-INF, 0.0))
    problem.indices = list(torch.arange(4).split(1))
    problem.score = _table(values)  # type: ignore[method-assign]

    _, step = greedy(problem.candidates).steps

    assert step.stopped == Stopped(-4.5 / 4, 2, 4)


def test_the_bound_is_exact_where_means_differ_in_their_last_bit() -> None:
    # Sums of tenths in another order round differently; the bound must add in the same order.
    for seed, block in itertools.product(range(100), (1, 3, 7)):
        draw = torch.Generator().manual_seed(seed)
        best = torch.randint(0, 11, (23,), generator=draw).double() / 10
        candidate = best[torch.randperm(23, generator=draw)]  # an equal sum before rounding
        order = torch.randperm(23, generator=draw).split(block)
        blocks = Blocks(order, 0.0, 1.0, lambda _, __, c=candidate, o=order: (c[i] for i in o))  # type: ignore[misc]

        found = values_or_stopped(blocks, [0], best)

        if isinstance(found, Stopped):
            assert candidate.mean() < best.mean()
        else:
            assert torch.equal(found, candidate)


def test_a_risk_needs_values_with_both_bounds() -> None:
    unbounded = Problem(3, 8, _minus_losses(8), (-INF, 0.0))
    undeclared = Candidates([0], [0.5], unbounded.score)

    for candidates in (unbounded.candidates, undeclared):
        with pytest.raises(InputError, match=r"risk must be 0 .* got 0\.1"):
            greedy(candidates, risk=0.1)


def test_racing_stops_a_clear_loser_early_and_says_that_it_is_a_test() -> None:
    problem = Problem(2, 4000, _right(0.5, 4000), block=100)
    rows = {(0,): torch.ones(4000).double(), (0, 1): problem.score([1])}
    problem.score = lambda members, _=(): rows[tuple(members)]  # type: ignore[method-assign]

    [_, exact], [_, raced] = (greedy(problem.candidates, risk=r).steps for r in (0.0, 0.01))

    assert exact.stopped is not None
    assert exact.stopped.examples == 100  # the first loss decides against 4,000 of 4,000

    rows[0,] = (torch.arange(4000) % 10 > 0).double()  # 400 wrong
    [_, exact], [_, raced] = (greedy(problem.candidates, risk=r).steps for r in (0.0, 0.01))

    assert exact.stopped is not None
    assert raced.stopped is not None
    assert (exact.stopped.is_certain, raced.stopped.is_certain) == (True, False)
    assert raced.stopped.examples == 100 < exact.stopped.examples


@pytest.mark.parametrize("seed", range(3))
def test_racing_with_a_tiny_risk_accepts_what_whole_evaluations_accept(seed: int) -> None:
    problem = Problem(6, 60, _right(0.7, 60), seed=seed)

    raced = greedy(problem.candidates, risk=1e-9)

    assert raced.members == greedy(problem.candidates).members
