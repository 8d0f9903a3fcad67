from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpot.soups.tuning.method_space import to_simplex

boxes = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(position=boxes)
def test_coefficients_are_on_the_simplex(position: list[float]) -> None:
    coefficients = to_simplex(position)

    assert len(coefficients) == len(position)
    assert all(0 <= value <= 1 for value in coefficients)
    assert sum(coefficients) == pytest.approx(1)


@given(position=boxes.filter(lambda position: sum(position) > 1e-9))
def test_coefficients_keep_the_direction(position: list[float]) -> None:
    coefficients = to_simplex(position)

    assert [sum(position) * value for value in coefficients] == pytest.approx(position)


@pytest.mark.parametrize(
    ("corner", "coefficients"),
    [
        ([1, 1, 1], [1 / 3, 1 / 3, 1 / 3]),
        ([0, 1, 0], [0, 1, 0]),
        ([1, 0, 1], [0.5, 0, 0.5]),
        ([0, 0.25, 0], [0, 1, 0]),
        ([0, 0, 0], [1 / 3, 1 / 3, 1 / 3]),
        ([0.3], [1]),
    ],
)
def test_a_corner_is_a_choice_of_ingredients(
    corner: list[float], coefficients: list[float]
) -> None:
    assert to_simplex(corner) == coefficients
