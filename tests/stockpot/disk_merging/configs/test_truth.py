"""The config.json of a merged model says what its weights are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stockpot.disk_merging.configs.layer_fields import set_layers
from stockpot.errors import InputError
from tests.support.merge_files import State, language_model, merge, read_job, save_model

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
LINEAR = "method: linear\nmodels: [a, b]\n"


def merged_config(folder: Path, text: str, place: str = "merged") -> dict[str, Any]:
    """Merge, and return the content of config.json."""
    merge(folder, text, place)
    content: dict[str, Any] = json.loads((folder / place / "config.json").read_text())
    return content


def save(folder: Path, state: State | None = None, **config: Any) -> Path:
    """Write two models that are alike, with this configuration."""
    for name in ("a", "b"):
        save_model(folder / name, state or language_model(0), **config)
    return folder


def test_the_dtype_is_that_of_the_weights_under_the_name_that_the_field_has(tmp_path: Path) -> None:
    nested = {"dtype": "float32", "hidden_size": 4}
    save(tmp_path, torch_dtype="float32", text_config=nested, vision_config={"x": 1})

    config = merged_config(tmp_path, LINEAR + "dtype: bfloat16")

    assert config["torch_dtype"] == config["text_config"]["dtype"] == "bfloat16"
    assert "dtype" not in config
    assert config["vision_config"] == {"x": 1}
    assert (
        '- config.json: torch_dtype is "bfloat16", as the weights are, instead of "float32"'
        in (tmp_path / "merged" / "README.md").read_text()
    )


def test_of_several_dtypes_that_of_most_numbers_counts_for_each_part(tmp_path: Path) -> None:
    vision = {"vision_tower.weight": torch.ones(2, 2).half(), "vision_tower.norm": torch.ones(2)}
    text = {"language_model.weight": torch.ones(9, 2).bfloat16()}
    save(
        tmp_path,
        vision | text,
        dtype="float32",
        vision_config={"dtype": "float32"},
        text_config={"dtype": "float32"},
    )

    config = merged_config(tmp_path, LINEAR)

    assert config["dtype"] == config["text_config"]["dtype"] == "bfloat16"
    assert config["vision_config"]["dtype"] == "float16"


def test_a_dtype_that_is_not_said_or_is_right_is_left_alone(tmp_path: Path) -> None:
    save(tmp_path, hidden_size=4, torch_dtype="float32", sub={"dtype": None})
    before = (tmp_path / "a" / "config.json").read_text()

    assert merged_config(tmp_path, LINEAR) == json.loads(before)
    assert read_job(tmp_path, LINEAR, "x").notes == []


def test_a_quantization_that_the_weights_do_not_have_is_removed(tmp_path: Path) -> None:
    quantization = {"quant_method": "gptq", "bits": 4}
    save(tmp_path, hidden_size=4)
    for name in ("a", "b"):
        (tmp_path / name / "config.json").write_text(
            json.dumps({"text_config": {"quantization_config": quantization}, "hidden_size": 4})
        )

    notes = read_job(tmp_path, LINEAR).notes

    assert merged_config(tmp_path, LINEAR) == {"text_config": {}, "hidden_size": 4}
    removed = "config.json: text_config.quantization_config is removed"
    assert f"{removed}, as the weights are not quantised" in notes


@pytest.mark.parametrize("where", ["top", "text_config"])
def test_the_size_of_the_vocabulary_is_that_of_the_rows(tmp_path: Path, where: str) -> None:
    sizes = {"vocab_size": 9, "hidden_size": 4}
    save_model(tmp_path / "a", language_model(0), hidden_size=4)
    save_model(
        tmp_path / "b",
        language_model(1, vocabulary=9),
        **(sizes if where == "top" else {"text_config": sizes, "vocab_size": 7}),
    )

    config = merged_config(tmp_path, LINEAR + "mismatch: common\nconfig_from: b")

    assert (config if where == "top" else config[where])["vocab_size"] == 6
    assert where == "top" or config["vocab_size"] == 7  # it counts something else


def test_positions_are_counted_as_before_with_or_without_the_rows_for_padding(
    tmp_path: Path,
) -> None:
    names = ("model.decoder.embed_positions.weight", "bert.embeddings.token_type_embeddings.weight")
    short = dict(zip(names, (torch.ones(10, 4), torch.ones(1, 4)), strict=True))
    long = dict(zip(names, (torch.ones(18, 4), torch.ones(2, 4)), strict=True))
    save_model(tmp_path / "a", short)
    save_model(tmp_path / "b", long, max_position_embeddings=16, type_vocab_size=2, vocab_size=2)

    config = merged_config(tmp_path, LINEAR + "mismatch: base\nconfig_from: b")

    assert config == {"max_position_embeddings": 8, "type_vocab_size": 1, "vocab_size": 2}


def test_the_classes_are_those_of_the_model_with_as_many_rows(tmp_path: Path) -> None:
    classes = {"0": "cat", "1": "dog", "2": "cow"}
    save_model(tmp_path / "a", {"classifier.weight": torch.eye(3)}, id2label=classes)
    save_model(
        tmp_path / "b",
        {"classifier.weight": torch.eye(3)[:2]},
        id2label={"0": "no", "1": "yes"},
        label2id={"no": 0, "yes": 1},
    )

    config = merged_config(tmp_path, LINEAR + "mismatch: base\nconfig_from: b")

    assert config["id2label"] == classes
    assert config["label2id"] == {"cat": 0, "dog": 1, "cow": 2}


def test_a_configuration_of_another_size_is_refused_before_anything_is_merged(
    tmp_path: Path,
) -> None:
    save(tmp_path)
    wide = {name: torch.cat([tensor, tensor], dim=1) for name, tensor in language_model(0).items()}
    save_model(tmp_path / "wide", wide, hidden_size=8)

    with pytest.raises(
        InputError, match=r"wide: its config.json cannot be .* tensor .* has shape \(6, 8\)"
    ):
        read_job(tmp_path, LINEAR + "config_from: wide").check()


def test_tensors_that_the_configuration_does_not_know_are_named(tmp_path: Path) -> None:
    plain = language_model(0, head=False)
    save_model(tmp_path / "base", plain, tie_word_embeddings=False)
    for name in ("a", "b"):
        save_model(tmp_path / name, plain | {"score.weight": torch.ones(2, 4)})

    text = "method: task_arithmetic\nbase: base\nmodels: [a, b]\nexclude: [score]"
    notes = read_job(tmp_path, text).notes

    assert (
        "config.json is that of base, which lacks score.weight; to load them, name a model that "
        "has them in config_from" in notes
    )


def test_a_folder_with_a_configuration_alone_may_be_named(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "config.json").write_text('{"dtype": "float16", "vocab_size": 6}')

    assert merged_config(tmp_path, LINEAR + "config_from: settings") == {
        "dtype": "float32",
        "vocab_size": 6,
    }


def test_a_single_file_has_no_configuration_and_so_no_note_on_it(tmp_path: Path) -> None:
    save(tmp_path, dtype="float16")

    assert read_job(tmp_path, LINEAR, "merged.safetensors").notes == []


STRANGE: list[dict[str, Any]] = [
    {"id2label": 3, "label2id": [], "rope_parameters": {"full_attention": 1}, "dtype": ["x"]},
    {"num_hidden_layers": "three", "layer_types": {"a": 1}, "text_config": [], "vocab_size": 1e9},
    {"num_attention_heads": 0, "hidden_size": -1, "quantization_config": "x"},
    {"tie_word_embeddings": "no", "text_config": {"tie_word_embeddings": [1]}},
]


@pytest.mark.parametrize("config", STRANGE)
def test_fields_of_unknown_forms_do_not_stop_a_merge(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    save(tmp_path, **config)

    merge(tmp_path, LINEAR + "dtype: bfloat16")

    assert (tmp_path / "merged" / "config.json").is_file()


def test_numbers_of_repetitions_without_end_are_cut() -> None:
    layers = {"num_layers": 2, "attention_types": [[[], 10**30], [["global"], 10**30]]}

    set_layers(layers, ["h.0.weight"], [(dict(layers), 1)])

    assert layers["num_layers"] == 1


def test_a_configuration_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    save(tmp_path, hidden_size=4)
    (tmp_path / "a" / "config.json").write_text('{"a": ' * 400 + "1" + "}" * 400)

    with pytest.raises(InputError, match=r"a/config\.json: nested more than 50 times"):
        read_job(tmp_path, LINEAR).check()


def test_components_have_a_configuration_of_their_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_model(tmp_path / name, {"weight": torch.ones(2, 2)}, dtype="float32")
        modules = [{"path": "", "type": "Transformer"}, {"path": "1_Dense", "type": "Dense"}]
        (tmp_path / name / "modules.json").write_text(json.dumps(modules))
        save_model(
            tmp_path / name / "1_Dense",
            {"linear.weight": torch.ones(2, 2)},
            dtype="float32",
            act={"a": 1, "b": 2}[name],
        )

    notes = read_job(tmp_path, LINEAR + "dtype: float16").notes
    config = merged_config(tmp_path, LINEAR + "dtype: float16")

    assert config == {"dtype": "float16"}
    dense = json.loads((tmp_path / "merged" / "1_Dense" / "config.json").read_text())
    assert dense == {"dtype": "float16", "act": 1}
    assert notes[0] == (
        "warning: 1_Dense/config.json: act is 1 in a, 2 in b: the same weights are followed by "
        "another activation"
    )
    assert any(note.startswith("1_Dense/config.json: dtype is") for note in notes)


@pytest.mark.parametrize("section", [None, "text_config"])
def test_a_head_that_is_not_written_is_tied_also_in_a_configuration_from_elsewhere(
    tmp_path: Path, section: str | None
) -> None:
    save(tmp_path, language_model(0, head=False), tie_word_embeddings=True)
    untied = {"tie_word_embeddings": False}
    config = {section: untied} if section else untied
    save_model(tmp_path / "own", language_model(1), **config)

    written = merged_config(tmp_path, LINEAR + "config_from: own")

    assert (written[section] if section else written) == {"tie_word_embeddings": True}


def test_a_head_that_is_written_is_not_tied_also_in_a_configuration_from_elsewhere(
    tmp_path: Path,
) -> None:
    save(tmp_path, language_model(0), tie_word_embeddings=False)
    save_model(tmp_path / "tied", language_model(1, head=False), tie_word_embeddings=True)

    config = merged_config(tmp_path, LINEAR + "config_from: tied")

    assert config == {"tie_word_embeddings": False}


LAYERS = {
    "num_hidden_layers": 4,
    "layer_types": ["full", "slow", "full", "slow"],
    "no_rope_layers": [1, 1, 1, 0],
    "num_key_value_heads": [1, 2, 3, 4],
    "hybrid_override_pattern": "M-*E",
    "mlp_only_layers": [0, 3],
    "attention_types": [[["global", "local"], 2]],
    "eos_token_id": [7, 8, 9, 10],
    "hidden_size": 4,
    "num_experts": 4,
}


def test_every_field_about_layers_moves_with_them() -> None:
    other = LAYERS | {"layer_types": ["a", "b", "c", "d", "e"], "mlp_only_layers": [4]}
    config = {"text_config": dict(LAYERS), "vision_config": {"num_hidden_layers": 4}}
    order = [({"text_config": LAYERS}, 3), ({"text_config": other}, 4), ({"text_config": other}, 1)]

    notes = set_layers(config, ["language_model.layers.3.weight"], order)

    assert notes == []
    assert config == {
        "text_config": {
            "num_hidden_layers": 3,
            "layer_types": ["slow", "e", "b"],
            "no_rope_layers": [0, 0, 1],
            "num_key_value_heads": [4, 4, 2],
            "hybrid_override_pattern": "EE-",
            "mlp_only_layers": [0, 1],
            "attention_types": [[["local", "local", "local"], 1]],
            "eos_token_id": [7, 8, 9, 10],
            "hidden_size": 4,
            "num_experts": 4,
        },
        "vision_config": {"num_hidden_layers": 4},
    }


def test_every_name_of_the_number_of_layers_is_set() -> None:
    config = {"encoder_layers": 2, "num_hidden_layers": 2, "decoder_layers": 5}

    set_layers(config, ["encoder.layers.0.weight"], [(dict(config), 0)] * 3)

    assert config == {"encoder_layers": 3, "num_hidden_layers": 3, "decoder_layers": 5}


def test_rules_by_the_number_of_a_layer_and_unknown_numbers_of_layers_are_said() -> None:
    config = {"n_layer": 2, "first_k_dense_replace": 1, "attn_layer_period": None}

    moved = set_layers(dict(config), ["layers.0.weight"], [(config, 1), (config, 0)])
    in_place = set_layers(dict(config), ["layers.0.weight"], [(config, 0), (config, 1)])
    unknown = set_layers({"depths": [2, 2]}, ["layers.0.weight"], [({}, 0)])

    assert [note.split(" depend ")[0] for note in moved] == [
        "warning: config.json: first_k_dense_replace"
    ]
    assert in_place == []
    assert "no field for the number of layers is known; write 1 into it" in unknown[0]


def test_a_stack_of_layers_has_a_configuration_for_each(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        save_model(
            tmp_path / name,
            language_model(number),
            num_hidden_layers=3,
            layer_types=[f"{name}{layer}" for layer in range(3)],
        )

    config = merged_config(
        tmp_path,
        "method: passthrough\nlayers: [{path: a, range: [1, 3]}, {path: b, range: [0, 2]}]",
    )

    assert config == {"num_hidden_layers": 4, "layer_types": ["a1", "a2", "b0", "b1"]}


def test_a_value_that_is_not_a_number_does_not_differ_from_itself(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_model(tmp_path / name, language_model(0), model_type="llama")
        content = '{"model_type": "llama", "x": NaN, "y": [Infinity, NaN]}'
        (tmp_path / name / "config.json").write_text(content)

    notes = read_job(tmp_path, "{method: linear, models: [a, b]}").notes

    assert not [note for note in notes if "config.json" in note]
