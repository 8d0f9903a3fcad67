from __future__ import annotations

from stockpot.statistics.weak_correlations import weakly_correlated

UP, DOWN, BENT = [1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 2.0, 1.0]


def test_a_variable_that_correlates_with_all_others_is_left_out() -> None:
    values = {"a": [1.0, 0.0, 0.0], "middle": [1.0, 0.0, 1.0], "c": [0.0, 0.0, 1.0]}

    assert weakly_correlated(values, 0.4) == ["a", "c"]  # 0.5 with the middle, -0.5 between them


def test_opposite_variables_correlate_less_than_unrelated_ones() -> None:
    assert weakly_correlated({"a": UP, "b": DOWN}, 0.0) == ["a", "b"]
    assert weakly_correlated({"a": UP, "b": BENT}, 0.0) == []


def test_a_correlation_of_one_is_found_in_spite_of_rounding() -> None:
    values = {"a": [0.1, 0.2, 0.3], "b": [0.7 + 0.1 * x for x in (0.1, 0.2, 0.3)]}

    assert weakly_correlated(values, 1.0) == []


def test_of_one_variable_or_none() -> None:
    assert weakly_correlated({"a": UP}, 0.5) == []
    assert weakly_correlated({}, 0.5) == []
