"""Low-rank changes merged by their factors, against the full matrices."""

from __future__ import annotations

import math

import pytest
import torch
from adapter_folders import randn
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from stockpot.disk_merging.adapters.low_rank import concatenate, truncate

SHAPES = [((4, 9), (6, 4)), ((9, 4), (3, 9)), ((4, 3, 2, 2), (6, 4, 1, 1)), ((1, 5), (5, 1))]


@given(
    ranks=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    multipliers=st.lists(st.floats(-3, 3), min_size=4, max_size=4),
)
def test_factors_side_by_side_are_the_sum(ranks: list[int], multipliers: list[float]) -> None:
    factors = [(randn(r, 7, seed=r), randn(4, r, seed=r + 9)) for r in ranks]
    multipliers = multipliers[: len(ranks)]

    a, b = concatenate(factors, multipliers)

    expected = sum(m * b @ a for (a, b), m in zip(factors, multipliers, strict=True))
    assert (a.shape, b.shape) == ((sum(ranks), 7), (4, sum(ranks)))
    assert_close(b @ a, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shape_a", "shape_b"), SHAPES)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_truncation_leaves_out_the_smallest_singular_values(
    shape_a: tuple[int, ...], shape_b: tuple[int, ...], rank: int
) -> None:
    a, b = randn(*shape_a, seed=1).double(), randn(*shape_b, seed=2).double()
    whole = b.flatten(1) @ a.flatten(1)
    singular = torch.linalg.svdvals(whole)

    truncated = truncate(a, b, rank)

    rest = whole - truncated.b.flatten(1) @ truncated.a.flatten(1)
    assert_close(rest.norm(), singular[rank:].norm(), rtol=1e-10, atol=1e-12)
    assert math.isclose(truncated.error, singular[rank:].norm(), rel_tol=1e-10, abs_tol=1e-12)
    assert math.isclose(truncated.norm, whole.norm(), rel_tol=1e-10)
    assert truncated.a.shape == (min(rank, len(a)), *shape_a[1:])
    assert truncated.b.shape == (len(b), min(rank, len(a)), *shape_b[2:])


def test_enough_rank_leaves_the_factors_as_they_are() -> None:
    a, b = randn(3, 5), randn(4, 3)

    truncated = truncate(a, b, 3)

    assert truncated.a is a
    assert truncated.b is b
    assert truncated.error == 0


def test_a_rank_beyond_that_of_the_matrix_loses_nothing() -> None:
    a, b = randn(8, 3).double(), randn(2, 8).double()  # rank 2 at most

    truncated = truncate(a, b, 5)

    assert_close(truncated.b @ truncated.a, b @ a)
    assert truncated.error == 0
