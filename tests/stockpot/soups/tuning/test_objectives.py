"""Which candidate is chosen: by one objective, from a front, and above floors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from stockpot.soups.tuning.objectives import Scored, best_of, violations


def _chosen(objectives: Sequence[str], *scored: Scored) -> tuple[int, list[int]]:
    best, front = best_of(range(len(scored)), objectives, lambda place: scored[place])
    return best, front


def test_of_equal_values_the_first_is_chosen() -> None:
    assert _chosen(["val"], Scored((0.5,)), Scored((0.9,)), Scored((0.9,))) == (1, [])


def test_a_loss_is_minimized() -> None:
    assert _chosen(["loss"], Scored((0.5,)), Scored((0.2,)), Scored((math.nan,)))[0] == 1


def test_a_front_has_what_no_other_one_beats_and_the_first_objective_decides() -> None:
    best, front = _chosen(
        ["val", "loss"], Scored((0.9, 0.5)), Scored((0.8, 0.1)), Scored((0.7, 0.2))
    )

    assert (best, front) == (0, [1, 0])


def test_of_val_and_its_shifts_the_sum_decides() -> None:
    assert _chosen(["val", "val_shift"], Scored((0.9, 0.5)), Scored((0.8, 0.7)))[0] == 1


def test_a_candidate_below_a_floor_is_not_chosen() -> None:
    best, front = _chosen(
        ["sparsity", "val"], Scored((0.9, 0.5), (0.1,)), Scored((0.3, 0.8), (-0.2,))
    )

    assert (best, front) == (1, [1])


def test_where_none_reaches_the_floor_the_nearest_is_chosen() -> None:
    assert _chosen(["val"], Scored((0.9,), (0.3,)), Scored((0.5,), (0.1,)))[0] == 1


@pytest.mark.parametrize(
    ("floors", "values", "missed"),
    [
        ({"val": 0.5}, {"val": 0.75}, (-0.25,)),
        ({"loss": 0.5}, {"loss": 0.75}, (0.25,)),
        ({"val": 0.5, "loss": 1.0}, {"val": 0.25, "loss": 0.5}, (0.25, -0.5)),
    ],
)
def test_violations_are_in_the_direction_of_the_objective(
    floors: dict[str, float], values: dict[str, float], missed: tuple[float, ...]
) -> None:
    assert violations(floors, values) == missed
