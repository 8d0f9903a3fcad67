from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.merging.methods.iso_c import iso_c
from stockpot.merging.methods.iso_cts import iso_cts


def _random(shape: tuple[int, ...], num_models: int, seed: int = 53) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_iso_cts_of_a_case_computed_by_hand() -> None:
    # The sum is diag(10, 5, 3, -2). Common are its first two directions, 10 and 5 strong; of what
    # is left of either model one direction is its own, 3 and 2 strong. The mean of all is 5.
    tensors = [torch.diag(torch.tensor(d)) for d in ([5.0, 1, 3, 0], [5.0, 4, 0, -2])]

    merged = iso_cts(tensors, torch.zeros(4, 4), common=0.5)

    torch.testing.assert_close(merged, torch.diag(torch.tensor([5.0, 5, 5, -5])))


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    num_models=st.integers(1, 4),
    common=st.floats(0.05, 1.0),
    seed=st.integers(0, 1000),
)
def test_all_singular_values_of_the_merged_task_vector_are_equal(
    rows: int, columns: int, num_models: int, common: float, seed: int
) -> None:
    *tensors, base = _random((rows, columns), num_models + 1, seed)

    merged = iso_cts([t.double() for t in tensors], base.double(), common=common)

    values = torch.linalg.svdvals(merged - base.double())
    torch.testing.assert_close(values, values.mean().expand(min(rows, columns)))


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (20, 20)], ids=str)
def test_if_all_directions_are_common_it_is_iso_c(shape: tuple[int, int]) -> None:
    *tensors, base = _random(shape, 4)

    merged = iso_cts(tensors, base, common=1.0, scale=0.7)

    torch.testing.assert_close(merged, iso_c(tensors, base, scale=0.7))


@pytest.mark.parametrize("common", [0.1, 0.5, 0.8])
def test_one_model_is_iso_c_whatever_is_common(common: float) -> None:
    tensor, base = _random((9, 6), 2)

    torch.testing.assert_close(iso_cts([tensor], base, common=common), iso_c([tensor], base))


def test_the_own_direction_of_a_model_is_in_the_result_however_weak_it_is() -> None:
    strong = torch.diag(torch.tensor([10.0, 10.0, 0.0, 0.0]))
    first, second = strong.clone(), strong.clone()
    first[2, 2], second[3, 3] = 0.1, -0.2

    merged = iso_cts([first, second], torch.zeros(4, 4), common=0.5)

    mean = (20 + 20 + 0.1 + 0.2) / 4
    torch.testing.assert_close(merged, torch.diag(torch.tensor([mean, mean, mean, -mean])))


def test_what_is_left_of_a_task_vector_of_low_rank_is_no_direction_of_its_own() -> None:
    left, right = _random((6, 1), 2)
    base = torch.zeros(6, 6)

    merged = iso_cts([left @ right.T, base], base, common=0.5)

    torch.testing.assert_close(merged, left @ right.T)


@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 3, 3)], ids=str)
def test_what_is_no_matrix_gets_the_mean_of_task_vectors(shape: tuple[int, ...]) -> None:
    first, second, base = _random(shape, 3)

    merged = iso_cts([first, second], base, scale=0.6)

    torch.testing.assert_close(merged, base + 0.3 * (first - base) + 0.3 * (second - base))


@pytest.mark.parametrize("common", [0.0, 1.1, float("nan")])
def test_a_share_outside_its_range_is_refused(common: float) -> None:
    with pytest.raises(ValueError, match=r"^iso_cts: common must be in \(0, 1\], got"):
        iso_cts([torch.ones(2, 2)], torch.zeros(2, 2), common=common)
