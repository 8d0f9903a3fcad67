from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stockpot.merging.methods.tsv import tsv

SHAPES = [(), (1,), (7,), (64,), (3, 5), (5, 3), (2, 3, 3, 3)]


def _random(shape: tuple[int, ...], num_models: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(47)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_tsv_of_a_case_computed_by_hand() -> None:
    # Each keeps its larger singular value; their vectors are orthogonal already.
    tensors = [torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.5, 0.0], [0.0, 2.0]])]

    merged = tsv(tensors, torch.zeros(2, 2))

    torch.testing.assert_close(merged, torch.tensor([[3.0, 0.0], [0.0, 2.0]]))


def test_singular_vectors_are_made_orthogonal_before_they_are_summed() -> None:
    # Left vectors (1, 0) and (3, 4) / 5, as near to them as orthonormal ones can be: turned
    # apart by the same angle, which is half of 90 degrees less acos(3 / 5).
    tensors = [
        torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
        torch.tensor([[0.0, 3.0], [0.0, 4.0]]),
    ]
    turn = (torch.pi / 2 - torch.tensor(0.6).acos()) / 2

    merged = tsv(tensors, torch.zeros(2, 2))

    expected = torch.tensor([[turn.cos(), 5 * turn.sin()], [-turn.sin(), 5 * turn.cos()]])
    torch.testing.assert_close(merged, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tsv_of_one_model_is_that_model(shape: tuple[int, ...]) -> None:
    tensor, base = _random(shape, 2)

    merged = tsv([tensor], base)

    torch.testing.assert_close(merged, tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 3, 3)], ids=str)
def test_what_is_no_matrix_gets_the_mean_of_task_vectors(shape: tuple[int, ...]) -> None:
    first, second, base = _random(shape, 3)

    merged = tsv([first, second], base, scale=0.6)

    torch.testing.assert_close(merged, base + 0.3 * (first - base) + 0.3 * (second - base))


def test_tsv_of_tasks_that_do_not_interfere_is_their_sum() -> None:
    first, second = torch.zeros(6, 8), torch.zeros(6, 8)
    first[:3, :4], second[3:, 4:] = _random((3, 4), 2)
    [base] = _random((6, 8), 1)

    merged = tsv([base + first, base + second], base)

    torch.testing.assert_close(merged, base + first + second, rtol=1e-4, atol=1e-5)


def test_copies_count_once_with_their_leading_half() -> None:
    tensor = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))

    merged = tsv([tensor, tensor.clone()], torch.zeros(4, 4))

    torch.testing.assert_close(merged, torch.diag(torch.tensor([4.0, 3.0, 0.0, 0.0])))


def test_a_model_equal_to_the_base_brings_in_no_directions() -> None:
    base, tensor = torch.zeros(4, 4), torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))

    merged = tsv([base, tensor], base)

    torch.testing.assert_close(merged, torch.diag(torch.tensor([4.0, 3.0, 0.0, 0.0])))


def test_more_models_than_singular_values_keep_one_each() -> None:
    tensors = _random((2, 5), 4)

    merged = tsv(tensors, torch.zeros(2, 5))

    assert torch.linalg.matrix_rank(merged) == 2


def test_scale_multiplies_the_merged_task_vector() -> None:
    *tensors, base = _random((3, 5), 3)

    merged = tsv(tensors, base, scale=0.5)

    torch.testing.assert_close(merged - base, 0.5 * (tsv(tensors, base) - base))
