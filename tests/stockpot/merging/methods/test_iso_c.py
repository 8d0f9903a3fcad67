from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stockpot.merging.methods.iso_c import iso_c


def _random(shape: tuple[int, ...], num_models: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(53)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_iso_c_of_a_case_computed_by_hand() -> None:
    # The sum is diag(5, -1): singular values 5 and 1, whose mean is 3.
    tensors = [torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 0.0], [0.0, -2.0]])]

    merged = iso_c(tensors, torch.zeros(2, 2))

    torch.testing.assert_close(merged, torch.tensor([[3.0, 0.0], [0.0, -3.0]]))


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (20, 20)], ids=str)
def test_all_singular_values_of_the_merged_task_vector_are_the_mean(
    shape: tuple[int, int],
) -> None:
    *tensors, base = _random(shape, 4)

    merged = iso_c(tensors, base, scale=0.5)

    of_sum = torch.linalg.svdvals(sum((t - base for t in tensors), torch.zeros(shape)))
    of_merged = torch.linalg.svdvals(merged - base)
    torch.testing.assert_close(of_merged, (0.5 * of_sum.mean()).expand(min(shape)))


def test_a_sum_of_low_rank_keeps_its_rank_and_size() -> None:
    left, right = _random((6, 1), 2)
    base = torch.zeros(6, 6)

    merged = iso_c([left @ right.T, base], base)

    torch.testing.assert_close(merged, left @ right.T)


@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 3, 3)], ids=str)
def test_what_is_no_matrix_gets_the_mean_of_task_vectors(shape: tuple[int, ...]) -> None:
    first, second, base = _random(shape, 3)

    merged = iso_c([first, second], base, scale=0.6)

    torch.testing.assert_close(merged, base + 0.3 * (first - base) + 0.3 * (second - base))


def test_task_vectors_that_cancel_give_the_base_bit_for_bit() -> None:
    base = torch.zeros(3, 5)
    [tensor] = _random((3, 5), 1)

    merged = iso_c([tensor, -tensor], base)

    assert torch.equal(merged, base)
