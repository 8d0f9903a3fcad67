from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from stockpot.statistics.minimum_cuts import mean_between, minimum_cut, split_into_groups
from stockpot.statistics.values import Floats


def _cosines(vectors: Floats) -> Floats:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def _random(seed: int, size: int) -> Floats:
    return _cosines(np.random.default_rng(seed).normal(size=(size, 4)))


def _brute_force(similarities: Floats) -> float:
    size = len(similarities)
    parts = [p for k in range(1, size // 2 + 1) for p in combinations(range(size), k)]
    return min(mean_between(similarities, part) for part in parts)


def _planted() -> Floats:
    """Three orthogonal groups of four, with a little noise."""
    generator = np.random.default_rng(0)
    axes = np.repeat(np.eye(3, 30), 4, axis=0)
    return _cosines(axes + 0.02 * generator.normal(size=axes.shape))


@pytest.mark.parametrize("size", range(2, 11))
def test_the_cut_is_the_best_of_all_bipartitions(size: int) -> None:
    for seed in range(12):
        similarities = _random(seed, size)

        value, part = minimum_cut(similarities)

        assert value == pytest.approx(_brute_force(similarities))
        assert value == pytest.approx(mean_between(similarities, part))


def test_orthogonal_groups_are_found() -> None:
    groups = split_into_groups(_planted(), threshold=0.5)

    assert groups == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_one_foreign_member_among_many_is_a_group_of_its_own() -> None:
    similarities = np.full((17, 17), 0.8)
    similarities[5] = similarities[:, 5] = -0.3
    np.fill_diagonal(similarities, 1)

    assert split_into_groups(similarities)[1] == [5]


def test_groups_do_not_depend_on_the_order() -> None:
    order = np.random.default_rng(1).permutation(12)
    similarities = _planted()

    groups = split_into_groups(similarities[np.ix_(order, order)], threshold=0.5)

    found = {tuple(sorted(order[member] for member in group)) for group in groups}
    assert found == {(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)}


def test_what_is_alike_stays_one_group() -> None:
    assert split_into_groups(np.full((6, 6), 0.2)) == [[0, 1, 2, 3, 4, 5]]


def test_a_single_member_is_a_group() -> None:
    assert split_into_groups(np.ones((1, 1))) == [[0]]


def test_there_are_never_more_than_four_groups() -> None:
    assert len(split_into_groups(2 * np.eye(6) - 1)) == 4
