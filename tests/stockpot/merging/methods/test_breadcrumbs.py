"""`breadcrumbs` and `breadcrumbs_ties`, and both row by row."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from stockpot.merging.methods.breadcrumbs import (
    breadcrumbs,
    breadcrumbs_rows,
    breadcrumbs_ties,
    breadcrumbs_ties_rows,
)
from stockpot.merging.methods.task_arithmetic import task_arithmetic
from stockpot.merging.methods.ties import ties

ROWS = {breadcrumbs: breadcrumbs_rows, breadcrumbs_ties: breadcrumbs_ties_rows}
BOTH = pytest.mark.parametrize("method", [*ROWS])
ALL = pytest.mark.parametrize("method", [*ROWS, *ROWS.values()])
Breadcrumbs = Callable[..., Tensor]


def _random(shape: tuple[int, ...], num_models: int) -> list[Tensor]:
    generator = Generator().manual_seed(7)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


FIRST = torch.tensor([1.0, 9.0, -3.0, 2.0, 0.5])  # masked: 0, 0, -3, 2, 0
SECOND = torch.tensor([2.0, 1.0, 4.0, 3.0, -8.0])  # masked: 0, 0, 4, 3, 0


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (breadcrumbs, [0.0, 0.0, 2.0, 10.0, 0.0]),
        (breadcrumbs_rows, [0.0, 0.0, 2.0, 10.0, 0.0]),
        (breadcrumbs_ties, [0.0, 0.0, 8.0, 10.0, 0.0]),
        (breadcrumbs_ties_rows, [0.0, 0.0, 8.0, 10.0, 0.0]),
    ],
)
def test_breadcrumbs_of_a_case_computed_by_hand(method: Breadcrumbs, expected: list[float]) -> None:
    base = torch.full((5,), 10.0)

    merged = method(
        [base + FIRST, base + SECOND], base, [1.0, 1.0], density=0.4, gamma=0.2, scale=2.0
    )

    assert (merged - base).tolist() == expected


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (20, 20)], ids=str)
def test_density_1_is_task_arithmetic(shape: tuple[int, ...]) -> None:
    base, *tensors = _random(shape, 3)

    merged = breadcrumbs(tensors, base, [0.5, 2.0], density=1.0)

    torch.testing.assert_close(merged, task_arithmetic(tensors, base, [0.5, 2.0]))


@pytest.mark.parametrize("density", [0.3, 1.0])
def test_without_outliers_the_election_is_that_of_ties(density: float) -> None:
    base, *tensors = _random((50,), 4)
    coefficients = [0.5, 2.0, 1.0]

    merged = breadcrumbs_ties(tensors, base, coefficients, density=density, gamma=0.0)

    expected = ties(tensors, base, coefficients, density=density, normalize=False)
    torch.testing.assert_close(merged, expected)


@ALL
@pytest.mark.parametrize(("size", "outliers"), [(10, 0), (99, 0), (100, 1), (1000, 10)])
def test_the_largest_are_masked_where_gamma_makes_up_an_entry(
    method: Breadcrumbs, size: int, outliers: int
) -> None:
    tensor = torch.arange(1.0, size + 1)

    merged = method([tensor], torch.zeros(size), [1.0])

    kept = round(0.9 * size)
    expected = torch.zeros(size)
    middle = slice(size - outliers - kept, size - outliers)
    expected[middle] = tensor[middle]
    assert torch.equal(merged, expected)


@ALL
def test_a_bias_too_small_for_outliers_is_not_set_back_to_the_base(method: Breadcrumbs) -> None:
    merged = method([torch.arange(1.0, 11.0)], torch.zeros(10), [1.0], gamma=0.01)

    assert int(merged.count_nonzero()) == 9


@ALL
@pytest.mark.parametrize("shape", [(), (1,), (2,)], ids=str)
def test_a_tiny_tensor_keeps_an_entry(method: Breadcrumbs, shape: tuple[int, ...]) -> None:
    merged = method([torch.ones(shape)], torch.zeros(shape), [1.0], density=0.1, gamma=0.5)

    assert int(merged.count_nonzero()) == 1


@ALL
def test_a_tensor_that_no_model_changed_stays_bit_for_bit(method: Breadcrumbs) -> None:
    [base] = _random((200,), 1)

    assert torch.equal(method([base.clone(), base.clone()], base, [1.0, 0.5]), base)


@ALL
@pytest.mark.parametrize("gamma", [-0.1, 1.0, float("nan")])
def test_a_gamma_that_leaves_nothing_is_refused(method: Breadcrumbs, gamma: float) -> None:
    with pytest.raises(ValueError, match=rf"^{method.__name__}: gamma must be in \[0, 1\), got"):
        method([torch.ones(3)], torch.zeros(3), [1.0], gamma=gamma)


def test_rows_of_a_case_computed_by_hand() -> None:
    tensor = torch.tensor([[1.0, -9.0, 3.0, 2.0], [50.0, 60.0, 70.0, 80.0], [0.0, 0.0, 1.0, 0.0]])

    merged = breadcrumbs_rows([tensor], torch.zeros(3, 4), [0.5], density=0.5, gamma=0.25)

    # Of each row the largest entry is masked, then two are left; among equal ones the first.
    expected = [[0.0, 0.0, 1.5, 1.0], [0.0, 30.0, 35.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    assert merged.tolist() == expected


@pytest.mark.parametrize("by_tensor", [*ROWS])
@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 7), max_size=3),
    density=st.floats(0.05, 1),
    gamma=st.floats(0, 0.9),
    seed=st.integers(0, 1000),
)
def test_rows_are_merged_as_tensors_of_their_own(
    by_tensor: Breadcrumbs, shape: list[int], density: float, gamma: float, seed: int
) -> None:
    generator = Generator().manual_seed(seed)
    # Small whole numbers: many entries of a row have one magnitude.
    draws = [torch.randint(-3, 4, shape, generator=generator).float() for _ in range(3)]
    *tensors, base = draws
    options = {"density": density, "gamma": gamma, "scale": 0.7}

    merged = ROWS[by_tensor](tensors, base, [0.5, 2.0], **options)

    num_rows, length = math.prod(shape[:-1]), shape[-1] if shape else 1
    rows = zip(*(tensor.reshape(num_rows, length) for tensor in draws), strict=True)
    expected = [by_tensor(row[:-1], row[-1], [0.5, 2.0], **options) for row in rows]
    assert torch.equal(merged, torch.cat([base.flatten()[:0], *expected]).view(shape))
