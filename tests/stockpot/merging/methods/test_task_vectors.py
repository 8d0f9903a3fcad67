"""The primitives, against definitions that are slow and plain."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from stockpot.merging.draws import Draws
from stockpot.merging.methods.task_vectors import (
    drop_and_rescale,
    keep_probabilities,
    merge_agreeing,
    sum_weighted,
)


def _random(size: int, seed: int = 7, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(size, generator=Generator().manual_seed(seed), dtype=dtype)


def test_probabilities_rise_evenly_with_the_rank_in_the_row() -> None:
    task_vector = torch.tensor([[3.0, -1.0, 2.0], [0.0, 5.0, 0.0]], dtype=torch.float64)

    probabilities = keep_probabilities(task_vector, density=0.5, epsilon=0.2)

    expected = torch.tensor([[0.7, 0.3, 0.5], [0.3, 0.7, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(probabilities, expected)


@pytest.mark.parametrize("shape", [(), (1,), (4, 1)])
def test_a_row_of_one_entry_is_kept_with_the_density(shape: tuple[int, ...]) -> None:
    probabilities = keep_probabilities(torch.ones(shape), density=0.4, epsilon=0.2)

    torch.testing.assert_close(probabilities, torch.full(shape, 0.4))


def test_rescaling_by_l1_keeps_the_sum_of_magnitudes() -> None:
    task_vector = _random(1000)

    dropped = drop_and_rescale(task_vector, 0.3, Draws(1), "l1")

    torch.testing.assert_close(dropped.abs().sum(), task_vector.abs().sum())
    assert 0 < int((dropped == 0).sum()) < 1000


def test_without_rescaling_entries_are_dropped_or_stay() -> None:
    task_vector = _random(1000)

    dropped = drop_and_rescale(task_vector, 0.3, Draws(1), "none")

    kept = dropped != 0
    assert torch.equal(dropped[kept], task_vector[kept])
    assert abs(int(kept.sum()) - 300) < 4 * (1000 * 0.3 * 0.7) ** 0.5


def test_if_all_entries_are_dropped_nothing_is_left_to_rescale() -> None:
    dropped = drop_and_rescale(torch.ones(3), 1e-9, Draws(1), "l1")

    assert torch.equal(dropped, torch.zeros(3))


def test_the_same_entries_are_dropped_in_every_precision_and_layout() -> None:
    task_vector = _random(600).view(20, 30)
    strided = task_vector.T.contiguous().T

    draws = [
        drop_and_rescale(tensor, 0.5, Draws(1), "inverse") == 0
        for tensor in (task_vector, strided, task_vector.double())
    ]

    assert torch.equal(draws[1], draws[0])
    assert torch.equal(draws[2], draws[0])


def test_the_sum_is_weighted() -> None:
    task_vectors = [torch.tensor([1.0, 2.0]), torch.tensor([-4.0, 8.0])]

    assert sum_weighted(iter(task_vectors), [2.0, 0.5]).tolist() == [0.0, 8.0]


def test_the_elected_sign_is_that_of_the_weighted_sum() -> None:
    task_vectors = [torch.tensor([1.0, 1.0]), torch.tensor([2.0, 2.0]), torch.tensor([-5.0, -2.0])]

    of_sum = merge_agreeing(iter(task_vectors), [1.0, 1.0, 1.0], normalize=False)
    of_mean = merge_agreeing(iter(task_vectors), [1.0, 3.0, 1.0], normalize=True)

    assert of_sum.tolist() == [-5.0, 3.0]
    assert of_mean.tolist() == [(1 + 6) / 4, (1 + 6) / 4]


def test_entries_that_are_0_count_for_no_sign() -> None:
    task_vectors = [torch.tensor([4.0, 0.0]), torch.tensor([0.0, 0.0])]

    merged = merge_agreeing(iter(task_vectors), [1.0, 1.0], normalize=True)

    assert merged.tolist() == [4.0, 0.0]


def test_a_negative_coefficient_subtracts_also_from_a_mean() -> None:
    merged = merge_agreeing(iter([torch.tensor([3.0, -2.0])]), [-0.5], normalize=True)

    assert merged.tolist() == [-3.0, 2.0]


@given(
    rows=st.lists(
        st.lists(st.integers(-3, 3), min_size=4, max_size=4).map(lambda row: [*map(float, row)]),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=100, deadline=None)
def test_agreeing_entries_are_averaged_as_an_entry_by_entry_loop_does(
    rows: list[list[float]],
) -> None:
    columns = [*zip(*rows, strict=True)]
    agreeing = [[x for x in column if x * sum(column) > 0] for column in columns]
    expected = [sum(entries) / max(len(entries), 1) for entries in agreeing]

    merged = merge_agreeing(iter(torch.tensor(rows)), [1.0] * len(rows), normalize=True)

    torch.testing.assert_close(merged, torch.tensor(expected))


@pytest.mark.parametrize("normalize", [False, True])
def test_entries_of_a_large_tensor_are_merged_each_on_its_own(normalize: bool) -> None:
    task_vectors = [_random(600_000, seed) for seed in range(3)]
    positions = torch.arange(0, 600_000, 1013)

    merged = merge_agreeing(iter(task_vectors), [1.0, 0.5, 0.3], normalize=normalize)

    some = [task_vector[positions] for task_vector in task_vectors]
    alone = merge_agreeing(iter(some), [1.0, 0.5, 0.3], normalize=normalize)
    assert torch.equal(merged[positions], alone)
