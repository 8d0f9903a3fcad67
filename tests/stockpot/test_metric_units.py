from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpot.metric_units import Unit, unit_in, unit_of_scores

ERROR = Unit("minus_error", is_fraction=False, size=43.2)


def test_a_fraction_is_written_in_percent_and_its_differences_in_points() -> None:
    unit = Unit("accuracy")

    assert unit.score_in_full(0.965) == "96.5 %"
    assert unit.difference_in_full(0.041) == "+4.1 points"
    assert unit.bounds(-0.0001, 0.0) == "-0.0 to 0.0"
    assert unit.scores == "accuracy in %"


def test_what_is_no_fraction_is_written_as_it_is() -> None:
    assert ERROR.score_in_full(-43.2268) == "-43.2"
    assert ERROR.difference_in_full(0.41) == "+0.4 in minus_error"
    assert ERROR.signed(0.41, more=1) == "+0.41"
    assert ERROR.scores == "minus_error in its own unit"
    assert ERROR.score(-0.0) == "0.0"


@pytest.mark.parametrize(
    ("size", "text"), [(2.345, "2.345"), (23456.7, "23457"), (0.0012, "0.001200"), (399.0, "399.0")]
)
def test_decimals_follow_from_the_size(size: float, text: str) -> None:
    assert Unit("metric", is_fraction=False, size=size).score(size) == text


@given(st.floats(1e-9, 1e9))
def test_what_is_written_is_right_to_a_part_in_800(size: float) -> None:
    written = float(Unit("metric", is_fraction=False, size=size).score(size))

    assert abs(written - size) <= size / 800 * (1 + 1e-9)


def test_the_size_is_that_of_a_usual_score() -> None:
    scores = [-1e6, -40.0, -44.0, 0.0, math.nan, -42.0, -43.0]

    assert unit_of_scores("m", scores, is_fraction=False).size == 43
    assert unit_of_scores("m", [0.0, math.inf], is_fraction=False).size == 1
    assert unit_of_scores("m", scores, is_fraction=True) == Unit("m")


def test_a_finding_gives_its_unit_back_and_an_old_one_is_of_a_fraction() -> None:
    assert unit_in({"metric": "minus_error", "unit": ERROR.to_json()}) == ERROR
    assert unit_in({"metric": "accuracy"}) == Unit("accuracy")
