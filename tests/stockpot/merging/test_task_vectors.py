"""The primitives, against definitions that are slow and plain."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from stockpot.merging.task_vectors import (
    among_largest,
    drop_and_rescale,
    keep_largest,
    keep_middle,
    keep_probabilities,
    merge_agreeing,
    num_kept,
    sum_weighted,
)

magnitudes = st.lists(
    st.one_of(st.sampled_from([0.0, 1.0, 2.0]), st.floats(0, 2.0**100, width=32)), max_size=30
)


def _random(size: int, seed: int = 7, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(size, generator=Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(values=magnitudes, count=st.integers(0, 35))
@settings(max_examples=200, deadline=None)
def test_the_largest_are_those_of_a_stable_sort_without_zeros(
    values: list[float], count: int, dtype: torch.dtype
) -> None:
    by_size = sorted(range(len(values)), key=lambda position: -values[position])
    expected = {position for position in by_size[:count] if values[position] > 0}

    chosen = among_largest(torch.tensor(values, dtype=dtype), count)

    assert set(chosen.nonzero().flatten().tolist()) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2, 5000, 99_998, 99_999])
def test_the_largest_of_many_are_those_of_topk(count: int, dtype: torch.dtype) -> None:
    values = _random(100_000, dtype=dtype).abs()

    chosen = among_largest(values, count)

    assert set(chosen.nonzero().flatten().tolist()) == set(values.topk(count).indices.tolist())


def test_subnormal_and_huge_numbers_are_compared_as_others() -> None:
    values = torch.tensor([1e-45, 3e38, 1e-40, 0.0, 1.0])

    assert among_largest(values, 3).tolist() == [False, True, True, False, True]


def test_flat_order_is_that_of_the_indices_whatever_the_strides() -> None:
    values = torch.ones(3, 2).T

    assert among_largest(values, 2).tolist() == [[True, True, False], [False, False, False]]


@pytest.mark.parametrize(
    ("size", "share", "kept"), [(0, 0.2, 0), (1, 0.2, 1), (2, 0.01, 1), (10, 0.2, 2), (10, 1, 10)]
)
def test_the_number_kept_is_rounded_and_never_0_of_something(
    size: int, share: float, kept: int
) -> None:
    assert num_kept(size, share) == kept


@given(size=st.integers(1, 50), density=st.floats(0.001, 1))
@settings(max_examples=60, deadline=None)
def test_trimming_keeps_exactly_the_number_and_the_values(size: int, density: float) -> None:
    task_vector = _random(size)

    trimmed = keep_largest(task_vector, density)

    kept = trimmed != 0
    assert int(kept.sum()) == num_kept(size, density)
    assert torch.equal(trimmed[kept], task_vector[kept])
    assert kept.all() or trimmed[kept].abs().min() >= task_vector[~kept].abs().max()


def test_the_middle_is_what_is_left_between_outliers_and_small_entries() -> None:
    task_vector = torch.tensor([1.0, -9.0, 3.0, -4.0, 8.0, 0.5, 2.0, -7.0, 6.0, 5.0])

    middle = keep_middle(task_vector, density=0.5, gamma=0.2)

    assert middle.tolist() == [0, 0, 3, -4, 0, 0, 0, -7, 6, 5]


@given(size=st.integers(1, 300), density=st.floats(0.001, 1), gamma=st.floats(0, 0.999))
@settings(max_examples=100, deadline=None)
def test_the_middle_has_as_many_entries_as_density_says(
    size: int, density: float, gamma: float
) -> None:
    middle = keep_middle(_random(size), density, gamma)

    assert int(middle.count_nonzero()) == num_kept(size, density)


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

    dropped = drop_and_rescale(task_vector, 0.3, Generator().manual_seed(1), "l1")

    torch.testing.assert_close(dropped.abs().sum(), task_vector.abs().sum())
    assert 0 < int((dropped == 0).sum()) < 1000


def test_without_rescaling_entries_are_dropped_or_stay() -> None:
    task_vector = _random(1000)

    dropped = drop_and_rescale(task_vector, 0.3, Generator().manual_seed(1), "none")

    kept = dropped != 0
    assert torch.equal(dropped[kept], task_vector[kept])
    assert abs(int(kept.sum()) - 300) < 4 * (1000 * 0.3 * 0.7) ** 0.5


def test_if_all_entries_are_dropped_nothing_is_left_to_rescale() -> None:
    dropped = drop_and_rescale(torch.ones(3), 1e-9, Generator().manual_seed(1), "l1")

    assert torch.equal(dropped, torch.zeros(3))


def test_the_same_entries_are_dropped_in_every_precision_and_layout() -> None:
    task_vector = _random(600).view(20, 30)
    strided = task_vector.T.contiguous().T

    draws = [
        drop_and_rescale(tensor, 0.5, Generator().manual_seed(1), "inverse") == 0
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
