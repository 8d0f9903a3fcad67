"""`breadcrumbs` and `breadcrumbs_ties`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from stockpot.merging import breadcrumbs, breadcrumbs_ties, task_arithmetic, ties

BOTH = pytest.mark.parametrize("method", [breadcrumbs, breadcrumbs_ties])
Breadcrumbs = Callable[..., Tensor]


def _random(shape: tuple[int, ...], num_models: int) -> list[Tensor]:
    generator = Generator().manual_seed(7)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


FIRST = torch.tensor([1.0, 9.0, -3.0, 2.0, 0.5])  # masked: 0, 0, -3, 2, 0
SECOND = torch.tensor([2.0, 1.0, 4.0, 3.0, -8.0])  # masked: 0, 0, 4, 3, 0


@pytest.mark.parametrize(
    ("method", "expected"),
    [(breadcrumbs, [0.0, 0.0, 2.0, 10.0, 0.0]), (breadcrumbs_ties, [0.0, 0.0, 8.0, 10.0, 0.0])],
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


@BOTH
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


@BOTH
def test_a_bias_too_small_for_outliers_is_not_set_back_to_the_base(method: Breadcrumbs) -> None:
    merged = method([torch.arange(1.0, 11.0)], torch.zeros(10), [1.0], gamma=0.01)

    assert int(merged.count_nonzero()) == 9


@BOTH
@pytest.mark.parametrize("shape", [(), (1,), (2,)], ids=str)
def test_a_tiny_tensor_keeps_an_entry(method: Breadcrumbs, shape: tuple[int, ...]) -> None:
    merged = method([torch.ones(shape)], torch.zeros(shape), [1.0], density=0.1, gamma=0.5)

    assert int(merged.count_nonzero()) == 1


@BOTH
def test_a_tensor_that_no_model_changed_stays_bit_for_bit(method: Breadcrumbs) -> None:
    [base] = _random((200,), 1)

    assert torch.equal(method([base.clone(), base.clone()], base, [1.0, 0.5]), base)


@BOTH
@pytest.mark.parametrize("gamma", [-0.1, 1.0, float("nan")])
def test_a_gamma_that_leaves_nothing_is_refused(method: Breadcrumbs, gamma: float) -> None:
    with pytest.raises(ValueError, match=rf"^{method.__name__}: gamma must be in \[0, 1\), got"):
        method([torch.ones(3)], torch.zeros(3), [1.0], gamma=gamma)
