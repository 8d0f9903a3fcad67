"""Averages of aligned nets get REPAIR; all other merges only new BatchNorm statistics."""

from __future__ import annotations

import pytest
import torch
from alignment_nets import random_state
from made_context import DIGITS
from torch import Generator, Tensor

from stockpot.merging.engine import merge_states
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.seeding import seeded_generator
from stockpot.soups.alignment import repair
from stockpot.soups.preparation.finishing import Finishing
from stockpot.soups.preparation.train_examples import train_batches

SHARES = (0.25, 0.75)
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def nets() -> list[State]:
    net = DIGITS.build().build_model(seeded_generator(0, "weights"))
    return [random_state(net, Generator().manual_seed(seed)) for seed in (1, 2)]


@pytest.fixture(scope="module")
def average(nets: list[State]) -> State:
    return merge_states(nets, Recipe.of(linear, SHARES))


def test_an_average_of_aligned_nets_is_repaired_on_examples_of_train(
    nets: list[State], average: State
) -> None:
    workload = DIGITS.build()
    net = workload.build_model(seeded_generator(0, "weights"))
    batches = list(train_batches(workload, 512, seed=0, device="cpu"))

    finished = Finishing(workload, "cpu", nets)(average, nets, SHARES)

    expected = repair(net, nets, SHARES, average, workload.forward, batches)
    assert all(torch.equal(finished[name], expected[name]) for name in average)
    assert not torch.equal(finished["head.bias"], average["head.bias"])


def test_nets_that_are_not_known_beforehand_are_measured_too(
    nets: list[State], average: State
) -> None:
    workload = DIGITS.build()
    known, others = Finishing(workload, "cpu", nets), Finishing(workload, "cpu", [average])

    first, second = (finishing(average, nets, SHARES) for finishing in (known, others))

    assert all(torch.equal(first[name], second[name]) for name in average)


@pytest.mark.parametrize(
    ("shares", "with_base"),
    [((1.0,), False), ((1.0,), True), ((0.5, 0.5), True), ((1.5, -0.5), False)],
)
def test_what_is_no_average_of_ingredients_is_not_repaired(
    nets: list[State], average: State, shares: tuple[float, ...], with_base: bool
) -> None:
    finishing = Finishing(DIGITS.build(), "cpu", nets)

    finished = finishing(average, nets[: len(shares)], shares, with_base=with_base)

    assert not finishing.repairs(shares, with_base=with_base)
    assert all(torch.equal(finished[name], average[name]) for name in average)


def test_ingredients_of_one_base_are_not_repaired(nets: list[State], average: State) -> None:
    finished = Finishing(DIGITS.build(), "cpu")(average, nets, SHARES)

    assert all(torch.equal(finished[name], average[name]) for name in average)
