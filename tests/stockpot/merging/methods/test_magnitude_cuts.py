"""Cuts between large and small entries, against definitions that are slow and plain."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from stockpot.merging import runs as runs_module
from stockpot.merging.methods.magnitude_cuts import Cut, find_cuts, keep_largest, num_kept
from stockpot.merging.methods.task_vectors import keep_middle, measure_middle
from stockpot.merging.runs import Runs

magnitudes = st.lists(
    st.one_of(st.sampled_from([0.0, 1.0, 2.0]), st.floats(0, 2.0**100, width=32)), max_size=30
)


def _random(size: int, seed: int = 7, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(size, generator=Generator().manual_seed(seed), dtype=dtype)


def _largest(values: Tensor, count: int) -> Tensor:
    ((cut,),) = find_cuts(Runs.of([values]), [[count]])
    return keep_largest(values, cut) > 0


def _cut(task_vector: Tensor, density: float) -> Cut:
    ((cut,),) = find_cuts(Runs.of([task_vector]), [[num_kept(task_vector.numel(), density)]])
    return cut


def _middle(task_vector: Tensor, density: float, gamma: float) -> Tensor:
    (cuts,) = measure_middle(Runs.of([task_vector]), [], {"density": density, "gamma": gamma})
    return keep_middle(task_vector, cuts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(values=magnitudes, count=st.integers(0, 35))
@settings(max_examples=200, deadline=None)
def test_the_largest_are_those_of_a_stable_sort_without_zeros(
    values: list[float], count: int, dtype: torch.dtype
) -> None:
    by_size = sorted(range(len(values)), key=lambda position: -values[position])
    expected = {position for position in by_size[:count] if values[position] > 0}

    chosen = _largest(torch.tensor(values, dtype=dtype), count)

    assert set(chosen.nonzero().flatten().tolist()) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2, 5000, 99_998, 99_999])
def test_the_largest_of_many_are_those_of_topk(count: int, dtype: torch.dtype) -> None:
    values = _random(100_000, dtype=dtype).abs()

    chosen = _largest(values, count)

    assert set(chosen.nonzero().flatten().tolist()) == set(values.topk(count).indices.tolist())


def test_subnormal_and_huge_numbers_are_compared_as_others() -> None:
    values = torch.tensor([1e-45, 3e38, 1e-40, 0.0, 1.0])

    assert _largest(values, 3).tolist() == [False, True, True, False, True]


def test_flat_order_is_that_of_the_indices_whatever_the_strides() -> None:
    values = torch.ones(3, 2).T

    assert _largest(values, 2).tolist() == [[True, True, False], [False, False, False]]


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

    trimmed = keep_largest(task_vector, _cut(task_vector, density))

    kept = trimmed != 0
    assert int(kept.sum()) == num_kept(size, density)
    assert torch.equal(trimmed[kept], task_vector[kept])
    assert kept.all() or trimmed[kept].abs().min() >= task_vector[~kept].abs().max()


def test_the_middle_is_what_is_left_between_outliers_and_small_entries() -> None:
    task_vector = torch.tensor([1.0, -9.0, 3.0, -4.0, 8.0, 0.5, 2.0, -7.0, 6.0, 5.0])

    middle = _middle(task_vector, density=0.5, gamma=0.2)

    assert middle.tolist() == [0, 0, 3, -4, 0, 0, 0, -7, 6, 5]


@given(size=st.integers(1, 300), density=st.floats(0.001, 1), gamma=st.floats(0, 0.999))
@settings(max_examples=100, deadline=None)
def test_the_middle_has_as_many_entries_as_density_says(
    size: int, density: float, gamma: float
) -> None:
    middle = _middle(_random(size), density, gamma)

    assert int(middle.count_nonzero()) == num_kept(size, density)


@given(values=magnitudes, count=st.integers(0, 35), length=st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_a_part_keeps_what_the_whole_keeps_there(
    values: list[float], count: int, length: int
) -> None:
    whole = torch.tensor(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, "MOST_ENTRIES", length)
        ((cut,),) = find_cuts(Runs.of([whole]), [[count]])

    parts = [
        keep_largest(whole[start : start + 4], cut, start) > 0 for start in range(0, len(values), 4)
    ]

    assert torch.equal(
        torch.cat([torch.empty(0, dtype=torch.bool), *parts]), _largest(whole, count)
    )


def test_each_model_has_cuts_of_its_own_task_vector() -> None:
    base, first, second = torch.ones(4), torch.tensor([2.0, 4, 1, 1]), torch.tensor([1.0, 1, 0, -2])

    cuts = find_cuts(Runs.of([first, second], base), [[1, 2], [1, 2]])

    kept = [
        [keep_largest(tensor - base, cut).tolist() for cut in own]
        for tensor, own in zip((first, second), cuts, strict=True)
    ]
    assert kept == [[[0, 3, 0, 0], [1, 3, 0, 0]], [[0, 0, 0, -3], [0, 0, -1, -3]]]


def test_counts_may_depend_on_the_number_of_entries_that_are_not_0() -> None:
    values = torch.tensor([0.0, 3.0, 1.0, 2.0, 0.0])

    ((cut,),) = find_cuts(Runs.of([values]), lambda nonzero: [[nonzero[0] - 1]])

    assert keep_largest(values, cut).tolist() == [0, 3, 0, 2, 0]


def test_memory_is_bounded_where_all_magnitudes_are_equal() -> None:
    # Allocations of numpy are counted; 4 bytes per entry would be collected.
    runs = Runs.of([torch.full((3_000_000,), 0.5)])
    tracemalloc.start()
    try:
        ((cut,),) = find_cuts(runs, [[1_000_000]])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert cut == Cut(0.5, 999_999)
    assert peak < 4 * 3_000_000 / 2


def _sampled_well(values: Tensor) -> Tensor:
    return values


def _sampled_badly(values: Tensor) -> Tensor:
    values[::127] *= 100  # what the sample sees
    return values


def _of_few_values(values: Tensor) -> Tensor:
    return (values * 2).round() / 2


def _of_two_values(values: Tensor) -> Tensor:
    return torch.where(values > values.median(), 1.0, 1 + 2.0**-23)


@pytest.mark.parametrize("changed", [_sampled_well, _sampled_badly, _of_few_values, _of_two_values])
@pytest.mark.parametrize("share", [1e-5, 0.2, 0.5, 0.99])
def test_the_largest_of_very_many_are_those_of_a_stable_sort(
    changed: Callable[[Tensor], Tensor], share: float
) -> None:
    values = changed(_random(400_000).abs())
    count = int(share * 400_000)

    chosen = _largest(values, count)

    order = values.sort(descending=True, stable=True)
    expected = order.indices[:count][order.values[:count] > 0].sort().values
    assert torch.equal(chosen.nonzero().flatten(), expected)


@pytest.mark.parametrize("values", [[math.nan] * 4, [1.0, math.nan, -math.nan, 2.0]])
def test_values_that_are_no_numbers_have_a_cut_as_they_are_refused_later(
    values: list[float],
) -> None:
    ((cut,),) = find_cuts(Runs.of([torch.tensor(values)]), [[2]])

    assert math.isnan(cut.magnitude)
