from __future__ import annotations

from stockpot.statistics.correlated_groups import correlated_groups

UP, DOWN, BENT = [1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 2.0, 1.0]


def test_variables_that_correlate_are_in_one_group() -> None:
    values = {"a": UP, "b": DOWN, "c": [2.0, 4.0, 6.0, 8.0], "d": BENT}

    assert correlated_groups(values, 0.7) == [["a", "c"], ["b"], ["d"]]


def test_a_correlation_of_one_is_found_in_spite_of_rounding() -> None:
    values = {"a": [0.1, 0.2, 0.3], "b": [0.7 + 0.1 * x for x in (0.1, 0.2, 0.3)]}

    assert correlated_groups(values, 1.0) == [["a", "b"]]


def test_a_chain_of_correlations_links_its_ends() -> None:
    values = {"a": [1.0, 0.0, 0.0], "c": [0.0, 0.0, 1.0], "b": [1.0, 0.0, 1.0]}

    assert correlated_groups(values, 0.4) == [["a", "c", "b"]]


def test_of_one_variable_or_none() -> None:
    assert correlated_groups({"a": UP}, 0.5) == [["a"]]
    assert correlated_groups({}, 0.5) == []
