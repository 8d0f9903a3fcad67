"""The file of `stockpot merge`: our own form, mergekit's, and what is refused of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpot.config.merge import MergeFile, load_merge, value_at
from stockpot.errors import InputError

Read = Callable[[str], MergeFile]

TIES = """
merge_method: ties
base_model: base
models:
  - {model: base}
  - {model: a, parameters: {weight: 0.3, density: 0.4}}
  - {model: b, parameters: {weight: [0, 1], density: 0.4}}
parameters: {normalize: true, lambda: 0.9, int8_mask: true}
dtype: float32
out_dtype: bfloat16
"""


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_text(text: str) -> MergeFile:
        path = tmp_path / "merge.yaml"
        path.write_text(text)
        return load_merge(path)

    return read_text


def test_our_form_takes_names_and_names_with_coefficients(read: Read) -> None:
    merge = read("method: linear\nmodels: [a, {path: b, coefficient: 0.5}]\noptions: {x: 1}")

    assert [(entry.path, entry.coefficient) for entry in merge.entries] == [("a", 1.0), ("b", 0.5)]
    assert merge.options == {"x": 1}
    assert (merge.base, merge.dtype, merge.seed) == (None, None, 0)


def test_mergekits_form_becomes_ours(read: Read) -> None:
    merge = read(TIES)

    assert merge.method == "ties"
    assert merge.base == "base"
    assert [(e.path, e.coefficient) for e in merge.entries] == [("a", 0.3), ("b", [0.0, 1.0])]
    expected = {"density": 0.4, "normalize": True, "scale": 0.9}
    assert merge.options == expected
    assert merge.dtype == "bfloat16"


def test_mergekits_slerp_starts_from_the_base(read: Read) -> None:
    merge = read(
        "merge_method: slerp\nbase_model: b\nmodels: [{model: a}, {model: b}]\nparameters: {t: 0.3}"
    )

    assert [entry.path for entry in merge.entries] == ["b", "a"]
    assert merge.base is None
    assert merge.options == {"t": 0.3}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("method: linear", "models: is required, got nothing"),
        ("method: linear\nmodels: []", "models: must have at least 1 item"),
        ("method: linear\nmodels: [a]\nbse: c", "bse: unknown field 'bse', choose from"),
        ("method: linear\nmodels: [a]\ndtype: int8", "dtype: must be 'float64', 'float32'"),
        ("merge_method: ties\nslices: [1]", "slices: not supported; remove it"),
        (
            "merge_method: ties\nmodels: [{model: a}]\ntokenizer_source: union",
            "tokenizer source 'union': not supported; remove it",
        ),
        ("merge_method: ties", "models: is required, got nothing"),
        (
            "merge_method: ties\nmodels:\n"
            "  - {model: a, parameters: {density: 0.1}}\n  - {model: b}",
            "models: parameter 'density' differs between models ([0.1, None]); only `weight` may",
        ),
        ("merge_method: ties\nmodels: [{modl: a}]", "models.0.modl: unknown field 'modl'"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(read: Read, text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        read(text)

    assert expected in str(caught.value)
    assert str(caught.value).startswith("merge.yaml: ")


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
