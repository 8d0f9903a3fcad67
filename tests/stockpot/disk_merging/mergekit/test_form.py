"""The file of `stockpot merge`: our own form, mergekit's, and what is refused of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stockpot.disk_merging.merge_files.merge_file import MergeFile
from stockpot.disk_merging.merge_files.mergekit_form import load_merge, model_paths
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
        (
            "merge_method: ties\nmodels: [{model: a}]\nmodules: {text: 1}\nchat_template: auto",
            "modules.text: must be a mapping",
        ),
        (
            "merge_method: ties\nbase_model: b\nslices:\n"
            "  - {sources: [{model: a, layer_range: [0, 2]}], base_model: c}",
            "slices: base_model must be that of the file (b) for ties, got c",
        ),
        (
            "merge_method: ties\nbase_model: b\nmodels: [{model: a}]\nparameters: {rescale: true}",
            "parameters.rescale must be false for ties, got True: the other variant does not exist",
        ),
        (
            "merge_method: nuslerp\nmodels: [{model: a}, {model: b}]\n"
            "parameters: {nuslerp_flatten: false, nuslerp_row_wise: true}",
            "parameters.nuslerp_row_wise must be false where nuslerp_flatten is, got true",
        ),
        (
            "merge_method: linear\nmodels: [{model: a}]\nmissing: skip",
            "missing: is a field of stockpot's format, which mergekit's lacks",
        ),
        (
            "method: slerp\nmodels: [{path: a, options: {t: 0.1}}, b]\noptions: {t: 0.5}",
            "models: options of single models of slerp must be of [], got 't'",
        ),
        ("method: linear\nmodels: [{path: a, coefficient: []}]", "must have at least 1 item"),
        ("method: sce\nmodels: [a]\noptions: {select_topk: []}", "must have at least 1 item"),
        (
            "merge_method: linear\n"
            "models: [{model: a, parameters: {weight: [{filter: mlp, value: x}, {value: 1}]}}]",
            "the value of a filter must be a number, got 'x'",
        ),
        (
            "method: linear\nmodels: [{path: a, coefficient: [{value: [1, {value: 2}]}]}]",
            "must be one value, or numbers over depth, got [1, {'value': 2}]",
        ),
        (
            "method: linear\nmodels: [{path: a, coefficient: [{filter: 3, value: 2}]}]",
            "a filter must be a part of names, got 3",
        ),
        ("method: linear\nmodels: &m [a, *m]", "its aliases (`*name`) stand for more than"),
        (
            "method: linear\nmodels: [{path: a, coefficient: [{filter: mlp}]}]",
            "a filter must have a value, got {'filter': 'mlp'}",
        ),
        (
            "merge_method: passthrough\nmodels: [{model: a}]\nslices:\n"
            "  - {sources: [{model: a, layer_range: [0, 2]}]}",
            "slices: replace models; remove one of them",
        ),
        (
            "merge_method: passthrough\nslices:\n  - {sources: [{model: a, layer_range: [2, 2]}]}",
            "range must be [first, end] with 0 <= first < end, got (2, 2)",
        ),
        (
            "merge_method: linear\nslices:\n  - sources:\n"
            "      - {model: a, layer_range: [0, 2]}\n      - {model: b, layer_range: [0, 3]}",
            "ranges of layers that are merged must have one length, got [[0, 2], [0, 3]]",
        ),
        (
            "merge_method: ties\nbase_model: b\nslices:\n  - sources:\n"
            "      - {model: a, layer_range: [0, 2]}\n      - {model: b, layer_range: [1, 3]}",
            "layers of the base must be those of the first model, got [1, 3] and [0, 2]",
        ),
        (
            "method: linear\nmodels: [a]\nlayers: [{path: a, range: [0, 1]}]",
            "layers: replace models; remove one of them",
        ),
        ("method: linear\nlayers: [{path: a}]", "range: is required, got nothing"),
        (
            "method: linear\nlayers: [{path: a, range: [0, 1], scale: 2}]",
            "unknown field 'scale', choose from",
        ),
        (
            "method: linear\nmodels: [a]\noutput: adapter\nmissing: skip",
            "missing is not for `output: adapter`; remove one of them",
        ),
        ("method: linear\nmodels: [a]\nmismatch: pad", "mismatch: must be 'error', 'skip', 'base'"),
        ("merge_method: ties", "models: is required, got nothing"),
        ("merge_method: ties\nmodels: [{modl: a}]", "models.0.model: is required, got nothing"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(read: Read, text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        read(text)

    assert expected in str(caught.value)
    assert str(caught.value).startswith("merge.yaml: ")


STACK = """
merge_method: passthrough
slices:
  - sources:
      - model: a
        layer_range: [0, 3]
        parameters: {scale: [{filter: up, value: 0}, {value: 1}]}
  - {sources: [{model: b, layer_range: [1, 3]}], parameters: {scale: 2}}
"""


def test_slices_of_one_model_each_become_layers(read: Read) -> None:
    merge = read(STACK)

    first, second = merge.layers
    assert [(m.path, m.range) for m in first.models] == [("a", (0, 3))]
    assert first.options == {"scale": [{"filter": "up", "value": 0}, {"value": 1}]}
    assert [(m.path, m.range) for m in second.models] == [("b", (1, 3))]
    assert second.options == {"scale": 2.0}
    assert [entry.path for entry in merge.entries] == ["a", "b"]


def test_a_slice_of_several_models_starts_from_the_base_where_two_are_merged(read: Read) -> None:
    merge = read(
        "merge_method: slerp\nbase_model: b\nparameters: {t: [0, 1]}\nslices:\n  - sources:\n"
        "      - {model: a, layer_range: [0, 3]}\n      - {model: b, layer_range: [1, 4]}"
    )

    assert [(m.path, m.range) for m in merge.layers[0].models] == [("b", (1, 4)), ("a", (0, 3))]
    assert merge.base is None
    assert merge.layers[0].options == {"t": [0.0, 1.0]}


def test_the_base_of_a_slice_is_not_one_of_its_models(read: Read) -> None:
    merge = read(
        "merge_method: ties\nbase_model: b\nparameters: {weight: 0.4, lambda: 0.5}\n"
        "slices:\n  - sources:\n      - {model: b, layer_range: [0, 3]}\n"
        "      - {model: a, layer_range: [0, 3], parameters: {density: 0.3}}"
    )

    assert [(m.path, m.coefficient) for m in merge.layers[0].models] == [("a", 0.4)]
    assert merge.base == "b"
    assert merge.layers[0].options == {"density": 0.3, "scale": 0.5}


def test_layers_of_one_model_need_no_list(read: Read) -> None:
    short = read("method: passthrough\nlayers: [{path: a, range: [0, 2], options: {scale: 2}}]")
    long = read(
        "method: passthrough\nlayers: [{models: [{path: a, range: [0, 2]}], options: {scale: 2}}]"
    )

    assert short == long


@pytest.mark.parametrize("source", ["union", "base", "b", "model:b"])
def test_the_source_of_the_tokenizer_has_two_places(read: Read, source: str) -> None:
    text = "merge_method: linear\nbase_model: c\nmodels: [{model: a}]\n"
    merge = read(f"{text}tokenizer_source: '{source}'")

    assert merge == read(f"{text}tokenizer: {{source: '{source}'}}")
    assert merge.tokenizer is not None
    assert merge.tokenizer.source == source.removeprefix("model:")
    assert merge.config_from == "c"


def test_the_section_on_the_tokenizer_is_mergekit_s(read: Read) -> None:
    section = """
tokenizer:
  pad_to_multiple_of: 64
  tokens:
    <s>: {source: %s, force: true}
    <n>: {source: {kind: model_token, model: %s, token_id: 3}}
    <z>: {source: {kind: zero}}
"""
    model = "{model: {path: a}, lora: {path: b}}"
    theirs = read("merge_method: linear\nmodels: [{model: a}]" + section % (model, model))
    short = "a+b"
    ours = read("method: linear\nmodels: [a]\nhead_depth: 0" + section % (short, short))

    assert theirs.tokenizer == ours.tokenizer
    assert ours.tokenizer is not None
    assert ours.tokenizer.source == "union"
    assert ours.tokenizer.named_models == ["a+b", "a+b"]


def test_the_models_that_a_file_of_either_form_names_are_found_without_a_look_at_the_rest(
    tmp_path: Path,
) -> None:
    ours, theirs = tmp_path / "ours.yaml", tmp_path / "theirs.yaml"
    ours.write_text("method: tie\nmodels: [a, {path: b+d, coefficient: 0.5}]\nbase: /c\n")
    theirs.write_text(
        "merge_method: no\nbase_model: c\ntokenizer: {source: e}\nslices:\n"
        "- sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: [0, 1]}]\n"
    )

    named = [Path("/c"), *(tmp_path / name for name in ("a", "b", "d"))]
    assert sorted(model_paths(ours)) == named
    assert sorted(model_paths(theirs)) == [tmp_path / n for n in "abce"]
