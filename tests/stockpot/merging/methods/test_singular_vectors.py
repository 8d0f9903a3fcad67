from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stockpot.merging.methods.singular_vectors import polar_factor, svd_on_support


def _random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(43)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)], ids=str)
def test_the_decomposition_multiplies_back(shape: tuple[int, int]) -> None:
    matrix = _random(*shape)

    u, s, vt = svd_on_support(matrix)

    assert len(s) == min(shape)
    torch.testing.assert_close(u @ s.diag() @ vt, matrix)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_only_what_is_not_zero_is_kept(rank: int) -> None:
    matrix = _random(6, rank) @ _random(rank, 5)

    u, s, vt = svd_on_support(matrix)

    assert (u.shape, s.shape, vt.shape) == ((6, rank), (rank,), (rank, 5))
    torch.testing.assert_close(u @ s.diag() @ vt, matrix)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)], ids=str)
def test_a_matrix_without_entries_has_none(shape: tuple[int, int]) -> None:
    u, s, vt = svd_on_support(torch.zeros(shape))

    assert (u.shape, s.shape, vt.shape) == ((shape[0], 0), (0,), (0, shape[1]))


def test_polar_factor_of_a_case_computed_by_hand() -> None:
    matrix = torch.tensor([[0.0, -2.0], [3.0, 0.0]])

    torch.testing.assert_close(polar_factor(matrix), torch.tensor([[0.0, -1.0], [1.0, 0.0]]))


def test_polar_factor_has_orthonormal_columns() -> None:
    factor = polar_factor(_random(7, 4))

    torch.testing.assert_close(factor.T @ factor, torch.eye(4, dtype=torch.float64))


def test_equal_columns_share_one_direction() -> None:
    column = torch.tensor([[3.0], [4.0]])

    factor = polar_factor(torch.cat([column, column], dim=1))

    torch.testing.assert_close(factor, torch.cat([column, column], dim=1) / 5 / 2**0.5)
