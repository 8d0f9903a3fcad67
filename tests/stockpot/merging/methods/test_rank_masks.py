"""Masks by rank, against the probability of each entry."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from stockpot.merging.draws import Draws
from stockpot.merging.methods.rank_masks import kept_by_rank
from stockpot.merging.methods.task_vectors import keep_probabilities


def _rows(kind: str, shape: tuple[int, int]) -> Tensor:
    values = torch.randn(shape, generator=Generator().manual_seed(7))
    return {
        "different": values,
        "some equal": values.bfloat16() - values.roll(1, 0).bfloat16(),
        "mostly equal": values.round(),
        "all equal": torch.full(shape, -0.5),
        "float64": values.double(),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["different", "some equal", "mostly equal", "all equal", "float64"]
)
@pytest.mark.parametrize("shape", [(40, 300), (7, 1), (3, 2), (1, 5000)])
@pytest.mark.parametrize(
    ("density", "epsilon"), [(0.5, 0.1), (0.3, 0.299), (0.6, 1e-6), (0.7, 0), (0.7, 0.3 - 1e-9)]
)
def test_entries_are_kept_as_by_their_own_probabilities(
    kind: str, shape: tuple[int, int], density: float, epsilon: float
) -> None:
    rows = _rows(kind, shape)
    rows = rows if kind == "float64" else rows.float()
    draws = Draws(5, start=1000)

    kept = kept_by_rank(rows, density, epsilon, draws).reshape(shape)

    expected = draws.kept(keep_probabilities(rows, density, epsilon), rows).numpy() > 0
    is_counted = rows.numpy() != 0  # the mask of an entry that is 0 has no effect
    assert np.array_equal(kept[is_counted], expected[is_counted])


def test_memory_is_bounded_where_entries_of_a_long_row_are_equal() -> None:
    values = torch.randn(1, 300_000, generator=Generator().manual_seed(7))
    tracemalloc.start()  # counts allocations of numpy
    try:
        kept_by_rank((values * 1500).round(), 0.5, 0.2, Draws(5))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 100 * values.numel()  # bytes


def test_no_rows_have_no_mask() -> None:
    assert kept_by_rank(torch.empty(0, 4), 0.5, 0.1, Draws(1)).shape == (0,)
