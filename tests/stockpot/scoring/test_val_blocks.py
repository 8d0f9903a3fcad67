"""Val in blocks: hard examples first, and the values of whole passes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from toy_workload import Toy

from stockpot.errors import InputError
from stockpot.scoring.val_blocks import hardest_first, in_blocks, in_random_order
from stockpot.scoring.val_scores import ValScorer, score_on_val
from stockpot.storage.models import Model
from stockpot.storage.store import Store
from stockpot.workloads.metric_ranges import range_of, values_in
from stockpot.workloads.spec import WorkloadSpec

SPEC = WorkloadSpec("toy_workload:Toy", 0, options=(("closed", "test"), ("sizes", "300,4")))
FIRST = torch.tensor([[1.0, 0.0], [0.0, 0.3]])
SECOND = torch.tensor([[0.2, 0.0], [0.0, 1.0]])


@pytest.fixture
def models(tmp_path: Path) -> list[Model]:
    """Two models that are wrong on different examples."""
    store = Store(tmp_path)
    return [
        score_on_val(tmp_path, SPEC, store.save("ingredient", name, name, {"weight": w}, {}), "cpu")
        for name, w in (("one", FIRST), ("two", SECOND))
    ]


def test_examples_that_most_models_get_wrong_come_first(
    tmp_path: Path, models: list[Model]
) -> None:
    scorer = ValScorer(SPEC.build(), "cpu")
    right = sum(scorer.val_values({"weight": weight}) for weight in (FIRST, SECOND))

    blocks = hardest_first(tmp_path, SPEC, models, "cpu")
    again = hardest_first(tmp_path, SPEC, models[::-1], "cpu")

    of_blocks = [right[block] for block in blocks]  # type: ignore[index]
    for block, later in itertools.pairwise(of_blocks):
        assert block.max() <= later.min()
    assert all(torch.equal(*pair) for pair in zip(blocks, again, strict=True))


@pytest.mark.parametrize("size", [1, 31, 32, 33, 64, 100, 5000])
def test_blocks_hold_each_example_once_and_double(size: int) -> None:
    blocks = in_random_order(size, seed=1)

    assert torch.equal(torch.cat(blocks).sort().values, torch.arange(size))
    assert len(blocks[0]) == min(size, 32)
    assert all(torch.equal(block, block.sort().values) for block in blocks)
    before = 0
    for block in blocks:
        assert len(block) <= min(max(before, 32), 1024)
        before += len(block)


def test_values_in_blocks_are_those_of_a_whole_pass() -> None:
    scorer = ValScorer(SPEC.build(), "cpu")
    blocks = in_blocks(torch.arange(300).flip(0))
    whole = scorer.val_values({"weight": FIRST})

    found = [*scorer.val_values_in({"weight": FIRST}, blocks)]

    assert scorer.num_examples == 300
    assert all(torch.equal(whole[i], v) for i, v in zip(blocks, found, strict=True))


def test_a_value_outside_the_declared_range_is_an_error() -> None:
    workload = Toy(0, (), (), sizes="40,4")
    workload.metrics = {"margin": values_in(0, 1)(lambda outputs, _: 2 + outputs[:, 0].abs())}
    scorer = ValScorer(workload, "cpu")

    with pytest.raises(InputError, match=r"declares values in \(0, 1\), got [23]\."):
        next(scorer.val_values_in({"weight": FIRST}, [torch.arange(1)]))


@pytest.mark.parametrize("bounds", [(1, 1), (0, float("inf")), (2, 1)])
def test_a_range_must_have_a_highest_value(bounds: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="do not declare a range"):
        values_in(*bounds)


def test_built_in_metrics_declare_their_range() -> None:
    names = ("digits", "text_classification", "preferences", "image_folder", "fashion_mnist")
    for name in names:
        assert _range_in(name) == (0, 1), name
    assert _range_in("causal_lm") == (-float("inf"), 0)


def _range_in(name: str) -> tuple[float, float] | None:
    from stockpot.workloads.registry import WORKLOADS

    return range_of(next(iter(WORKLOADS[name].metrics.values())))
