"""The values of a merge file: plain, over the depth of the net, by filters."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpot.disk_merging.merge_files.merge_file import MergeFile
from stockpot.disk_merging.merge_files.values import value_at
from stockpot.errors import InputError
from stockpot.yaml_files import validated


@given(depth=st.floats(0, 1), first=st.floats(-2, 2), last=st.floats(-2, 2))
def test_two_anchors_are_a_straight_line_over_depth(
    depth: float, first: float, last: float
) -> None:
    value = value_at([first, last], "w", depth)

    assert value == pytest.approx(first + depth * (last - first), abs=1e-12)


@pytest.mark.parametrize(
    ("depth", "expected"), [(0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 0.6), (1, 0.2)]
)
def test_three_anchors_stand_at_both_ends_and_in_the_middle(depth: float, expected: float) -> None:
    assert value_at([0.0, 1.0, 0.2], "w", depth) == pytest.approx(expected)


def test_one_anchor_is_that_number_everywhere() -> None:
    assert [value_at([0.3], "w", depth) for depth in (0, 0.4, 1)] == [0.3, 0.3, 0.3]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("layers.1.self_attn.q_proj.weight", 0.5),
        ("layers.1.mlp.up_proj.weight", 2.0),
        ("layers.7.norm.bias", 9.0),
        ("embed.weight", 1.0),
    ],
)
def test_the_first_filter_that_is_part_of_the_name_counts(name: str, expected: float) -> None:
    rules = [
        {"filter": "self_attn", "value": [0.0, 1.0]},
        {"filter": "mlp", "value": 2.0},
        {"filter": "layers.*.bias", "value": 9.0},
        {"value": 1.0},
    ]

    assert value_at(rules, name, 0.5) == expected


def test_a_tensor_that_no_filter_is_for_is_an_error() -> None:
    with pytest.raises(InputError, match="tensor 'w': no filter"):
        value_at([{"filter": "mlp", "value": 2.0}], "w", 0.0)


@pytest.mark.parametrize(
    "value",
    [
        *([], [{}], [{"filter": "mlp"}], [{"filter": None, "value": 1}], [{"value": {"a": 1}}]),
        *([{"value": []}], [{"value": [[1]]}], [{"value": None}], [{"value": math.nan}]),
        *([{"value": 10**400}], ["a"], [1, {"value": 1}], {"value": 1}, None),
    ],
)
def test_only_values_that_can_be_computed_are_accepted(value: Any) -> None:
    for fields in ({"options": {"t": value}}, {"models": [{"path": "a", "coefficient": value}]}):
        content = {"method": "slerp", "models": ["a", "b"]} | fields
        with pytest.raises(InputError, match=r"^merge.yaml: (options|models)\."):
            validated(MergeFile, content, "merge.yaml")


@pytest.mark.parametrize("value", ["a", True, ["a"]])
def test_coefficients_by_filters_are_numbers(value: Any) -> None:
    entry = {"path": "a", "coefficient": [{"filter": "mlp", "value": value}, {"value": 1}]}

    with pytest.raises(InputError, match=r"models\.0\.coefficient"):
        validated(MergeFile, {"method": "linear", "models": [entry]}, "merge.yaml")
