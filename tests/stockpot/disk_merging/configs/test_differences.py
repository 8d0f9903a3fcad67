"""Differences between the config.json of models, in words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from stockpot.disk_merging.configs.differences import compare_configs
from stockpot.disk_merging.configs.meanings import Effect, meaning_of
from stockpot.disk_merging.inspection import compare_configurations
from stockpot.errors import InputError
from stockpot.storage.weights.opening import open_source
from tests.support.merge_files import language_model, merge, read_job, save_model


def texts(**configs: dict[str, Any]) -> list[str]:
    return [difference.note for difference in compare_configs(configs)]


@pytest.mark.parametrize(
    ("field", "values", "reason"),
    [
        ("rope_theta", (10000.0, 1000000.0), "positions are encoded differently"),
        ("hidden_act", ("silu", "gelu"), "the same weights are followed by another activation"),
        ("rms_norm_eps", (1e-5, 1e-6), "norms add another constant before they divide"),
        ("num_attention_heads", (8, 4), "the same matrices are cut into other heads"),
        ("num_key_value_heads", (2, 4), "the same matrices are cut into other heads"),
        ("model_type", ("llama", "mistral"), "they are different architectures"),
        ("layer_types", (["a", "b"], ["b", "a"]), "layers of the same number compute differently"),
        ("attention_multiplier", (1.0, 0.5), "the same weights are scaled differently"),
        ("num_experts_per_tok", (2, 4), "experts are chosen differently"),
        ("tokenizer_class", ("Llama", "GPT2"), "the same ids may be other tokens"),
    ],
)
def test_what_makes_a_merge_meaningless_is_a_warning(
    field: str, values: tuple[Any, Any], reason: str
) -> None:
    [text] = texts(a={field: values[0]}, b={field: values[1]}, c={field: values[0]})

    assert re.fullmatch(rf"warning: config.json: {field} is .+ in a and c, .+ in b: {reason}", text)


def test_the_worst_differences_come_first_and_those_without_effect_last_in_one_line() -> None:
    one = {"_name_or_path": "x", "max_position_embeddings": 2048, "rope_theta": 1e4, "a": 1}
    other = {"_name_or_path": "y", "max_position_embeddings": 4096, "rope_theta": 5e5, "a": 2}
    one |= {"attention_dropout": 0.1, "quantization_config": {"quant_method": "fp8", "bits": 8}}
    other |= {"attention_dropout": 0.0}

    assert texts(one=one, other=other) == [
        "warning: config.json: rope_theta is 10000.0 in one, 500000.0 in other: positions are "
        "encoded differently",
        "config.json: a is 1 in one, 2 in other",
        "config.json: max_position_embeddings is 2048 in one, 4096 in other: the limits of the "
        "input's size are different",
        "config.json: without effect on the merge, other values of _name_or_path, "
        "attention_dropout, quantization_config",
    ]


def test_fields_of_nested_configurations_have_the_meaning_of_the_field() -> None:
    one = {"text_config": {"rope_theta": 1e4, "x": 1}, "vision_config": {"hidden_act": "gelu"}}
    other = {"text_config": {"rope_theta": 1e6, "x": 1}, "vision_config": {"hidden_act": "relu"}}

    found = texts(one=one, other=other)

    assert [text.split(" is ")[0] for text in found] == [
        "warning: config.json: text_config.rope_theta",
        "warning: config.json: vision_config.hidden_act",
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"torch_dtype": "bfloat16"}, {"dtype": "bfloat16"}),
        ({"rope_theta": 1e6, "rope_scaling": None}, {"rope_parameters": {"rope_theta": 1e6}}),
        (
            {"rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 4.0}},
            {"rope_parameters": {"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0}},
        ),
        (
            {"rope_theta": 1e6, "rope_local_base_freq": 1e4},
            {
                "rope_parameters": {
                    "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
                    "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
                }
            },
        ),
        ({"sliding_window": None}, {}),
        (
            {"num_attention_heads": 4, "num_key_value_heads": 4, "hidden_size": 32},
            {"num_attention_heads": 4, "hidden_size": 32, "head_dim": 8},
        ),
        ({"id2label": {"0": "LABEL_0"}}, {"text_config": {"id2label": {"0": "0"}}}),
    ],
)
def test_what_other_versions_write_differently_is_equal(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert texts(one=one, other=other) == []


def test_what_only_some_set_may_be_the_default_of_the_others() -> None:
    one = {"mlp_bias": False, "max_window_layers": 3, "rope_theta": 1e6}

    assert texts(one=one, other={"model_type": None}, third=one) == [
        "warning: config.json: rope_theta is 1000000.0 in one and third, not set in other: "
        "positions are encoded differently, unless that is the architecture's default",
        "config.json: set in one and third alone, so that the others have the architecture's "
        "defaults: max_window_layers (3), mlp_bias (false)",
    ]


def test_a_number_and_a_truth_value_are_not_equal() -> None:
    assert texts(one={"a": 1}, other={"a": True}) == ["config.json: a is 1 in one, true in other"]


def test_dropout_has_no_effect_and_what_is_unknown_is_to_be_known() -> None:
    assert meaning_of("text_config.attention_dropout").effect is Effect.NONE
    assert meaning_of("some_new_field").effect is Effect.RELEVANT


CLASSES = {"0": "negative", "1": "positive"}


@pytest.fixture
def classifiers(tmp_path: Path) -> Path:
    labels = {
        "base": {"0": "LABEL_0", "1": "LABEL_1"},
        "a": CLASSES,
        "b": {"0": "POSITIVE", "1": "NEGATIVE"},
        "c": {"0": "cat", "1": "dog"},
    }
    for number, (name, own) in enumerate(labels.items()):
        state = {"encoder.weight": torch.ones(3, 2), "classifier.weight": torch.eye(2) + number}
        save_model(tmp_path / name, state, id2label=own)
    return tmp_path


def test_heads_with_the_same_classes_in_another_order_are_refused(classifiers: Path) -> None:
    job = read_job(classifiers, "method: linear\nmodels: [a, b]")

    with pytest.raises(
        InputError,
        match=r"tensor 'classifier.weight': its rows are negative, positive in .*a, POSITIVE, "
        r"NEGATIVE in .*b .*copy the head with `exclude`",
    ):
        job.check()
    findings = compare_configurations([open_source(classifiers / name) for name in ("a", "b")])
    assert [finding.is_obstacle for finding in findings] == [True]


def test_a_head_that_is_copied_may_have_classes_in_another_order(classifiers: Path) -> None:
    merged = merge(classifiers, "method: linear\nmodels: [a, b]\nexclude: [classifier]")

    torch.testing.assert_close(merged["classifier.weight"], torch.eye(2) + 1)


def test_other_classes_and_classes_without_names_are_only_said(classifiers: Path) -> None:
    job = read_job(classifiers, "method: task_arithmetic\nmodels: [a, c]\nbase: base")

    job.check()

    assert job.notes[:2] == [
        "warning: config.json: id2label has other classes: id 0 is 'negative' in a, 'cat' in c, "
        "so the rows of a head mean different classes",
        "config.json: id2label has names in a, c, none in base",
    ]


def test_the_differences_and_the_number_formats_are_in_the_notes_and_the_card(
    tmp_path: Path,
) -> None:
    state = language_model(0)
    half = {name: tensor.bfloat16() for name, tensor in state.items()}
    save_model(tmp_path / "a", state, rope_theta=1e4)
    save_model(tmp_path / "b", half, rope_theta=1e6)
    (tmp_path / "x").mkdir()
    save_model(tmp_path / "x" / "b", state, rope_theta=1e4)

    merge(tmp_path, "method: linear\nmodels: [a, b, x/b]")

    card = (tmp_path / "merged" / "README.md").read_text()
    first, second = re.findall(r"^- (warning: config.*|.*stored in .*)$", card, re.MULTILINE)
    assert re.match(r"warning: config.json: rope_theta is 10000.0 in a and /.*/x/b, 1", first)
    assert second.endswith(
        "float32 in a, b; bfloat16 in b: merged in the widest, stored in float32"
    )
