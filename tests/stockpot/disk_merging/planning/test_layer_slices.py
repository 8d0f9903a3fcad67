"""Layers that are kept, stacked, or merged a slice at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.pedigree import read_pedigree
from stockpot.errors import InputError
from stockpot.storage.weights.tensor_names import is_after_layers, layer_of, num_layers
from tests.support.merge_files import language_model, merge, read_job, save_model

UP, OUT = "model.layers.{}.mlp.up_proj.weight", "model.layers.{}.self_attn.o_proj.weight"
EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "a", language_model(0), num_hidden_layers=3, hidden_size=4)
    save_model(
        tmp_path / "b",
        language_model(1, num_layers=4),
        num_hidden_layers=4,
        layer_types=["full", "sliding", "full", "sliding"],
    )
    return tmp_path


def test_all_layers_of_one_model_are_that_model_bit_for_bit(folder: Path) -> None:
    merged = merge(folder, "method: passthrough\nlayers: [{path: a, range: [0, 3]}]")

    expected = language_model(0)
    assert merged.keys() == expected.keys()
    assert all(torch.equal(merged[name], expected[name]) for name in expected)


def test_stacked_layers_are_numbered_on_between_the_first_embedding_and_the_last_head(
    folder: Path,
) -> None:
    merged = merge(
        folder, "method: passthrough\nlayers: [{path: a, range: [1, 3]}, {path: b, range: [0, 3]}]"
    )

    a, b = language_model(0), language_model(1, num_layers=4)
    for layer, (model, own) in enumerate([(a, 1), (a, 2), (b, 0), (b, 1), (b, 2)]):
        assert torch.equal(merged[UP.format(layer)], model[UP.format(own)])
        assert torch.equal(merged[OUT.format(layer)], model[OUT.format(own)])
    assert UP.format(5) not in merged
    assert torch.equal(merged[EMBEDDING], a[EMBEDDING])
    assert torch.equal(merged[NORM], b[NORM])
    assert torch.equal(merged[HEAD], b[HEAD])


def test_the_configuration_has_the_new_number_of_layers(folder: Path) -> None:
    merge(
        folder, "method: passthrough\nlayers: [{path: a, range: [0, 3]}, {path: b, range: [0, 2]}]"
    )

    config = json.loads((folder / "merged" / "config.json").read_text())
    assert config == {"num_hidden_layers": 5, "hidden_size": 4}


def test_the_types_of_layers_move_with_them(folder: Path) -> None:
    merge(
        folder, "method: passthrough\nlayers: [{path: b, range: [1, 2]}, {path: b, range: [1, 4]}]"
    )

    config = json.loads((folder / "merged" / "config.json").read_text())
    assert config == {
        "num_hidden_layers": 4,
        "layer_types": ["sliding", "sliding", "full", "sliding"],
    }


def test_a_scale_with_filters_is_of_its_slice_alone(folder: Path) -> None:
    merged = merge(
        folder,
        "method: passthrough\nlayers:\n  - {path: a, range: [0, 2]}\n"
        "  - path: a\n    range: [1, 3]\n"
        "    options: {scale: [{filter: o_proj, value: [0, 2]}, {value: 1}]}\n",
    )

    a = language_model(0)
    assert torch.equal(merged[OUT.format(0)], a[OUT.format(0)])
    assert torch.equal(merged[OUT.format(2)], torch.zeros(4, 4))
    assert torch.equal(merged[OUT.format(3)], 2 * a[OUT.format(2)])
    assert torch.equal(merged[UP.format(3)], a[UP.format(2)])


def test_several_models_of_a_slice_are_merged_with_its_coefficients(folder: Path) -> None:
    merged = merge(
        folder,
        "method: linear\nlayers:\n  - {path: b, range: [0, 1]}\n  - models:\n"
        "      - {path: a, range: [0, 2]}\n"
        "      - {path: b, range: [2, 4], coefficient: [3, 1]}\n",
    )

    a, b = language_model(0), language_model(1, num_layers=4)
    assert torch.equal(merged[EMBEDDING], b[EMBEDDING])
    assert torch.equal(merged[UP.format(0)], b[UP.format(0)])
    torch.testing.assert_close(merged[UP.format(1)], (a[UP.format(0)] + 3 * b[UP.format(2)]) / 4)
    torch.testing.assert_close(merged[UP.format(2)], (a[UP.format(1)] + b[UP.format(3)]) / 2)
    torch.testing.assert_close(merged[HEAD], (a[HEAD] + b[HEAD]) / 2)


def test_a_value_beside_the_layers_goes_over_all_layers_of_the_output(folder: Path) -> None:
    merged = merge(
        folder,
        "method: passthrough\noptions: {scale: [0, 4]}\n"
        "layers: [{path: a, range: [0, 3]}, {path: a, range: [1, 3]}]",
    )

    a = language_model(0)
    for layer, own in enumerate([0, 1, 2, 1, 2]):
        assert torch.equal(merged[UP.format(layer)], layer * a[UP.format(own)])


def test_the_base_of_a_slice_has_the_layers_of_the_first_model(folder: Path) -> None:
    merged = merge(
        folder, "method: task_arithmetic\nbase: b\nlayers: [{path: a, range: [1, 3]}]", "m"
    )

    a, b = language_model(0), language_model(1, num_layers=4)
    expected = b[UP.format(1)] + (a[UP.format(1)] - b[UP.format(1)])
    torch.testing.assert_close(merged[UP.format(0)], expected)


def test_random_methods_draw_for_a_stack_what_it_takes_to_make_it_again(folder: Path) -> None:
    merge(
        folder,
        "method: dare_linear\nbase: b\noptions: {density: 0.5}\nseed: 4\n"
        "layers: [{path: a, range: [0, 2]}, {path: a, range: [1, 3]}]",
    )

    again = MergeJob.rebuilding(folder / "merged", folder / "again", folder)
    again.check()
    again.run(lambda _bytes: None)

    first, second = (folder / name / "model.safetensors" for name in ("merged", "again"))
    assert first.read_bytes() == second.read_bytes()
    assert read_pedigree(folder / "merged")["layers"][1]["models"][0]["range"] == [1, 3]


def test_the_card_shows_where_layers_come_from(folder: Path) -> None:
    merge(
        folder, "method: passthrough\nlayers: [{path: a, range: [0, 3]}, {path: b, range: [1, 2]}]"
    )

    card = (folder / "merged" / "README.md").read_text()
    assert "| 0 to 2 | a 0 to 2 (coefficient 1.0) | {} |" in card
    assert "| 3 to 3 | b 1 to 1 (coefficient 1.0) | {} |" in card


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layers: [{path: a, range: [1, 4]}]", r"a: range must end at 3.*got \[1, 4\]"),
        ("base: a\nlayers: [{path: b, range: [1, 4]}]", r"a: range must end at 3"),
        ("layers: [{path: twice, range: [0, 1]}]", "one stack of layers, got .'de.', 'en.'"),
        ("layers: [{path: flat, range: [0, 1]}]", "one stack of layers, got none"),
        (
            "layers: [{models: [{path: a, range: [0, 1]}, {path: b, range: [0, 1]}]}]",
            "passthrough: merges 1 models, got 2",
        ),
    ],
)
def test_layers_that_are_not_there_are_refused_before_anything_is_read(
    folder: Path, text: str, expected: str
) -> None:
    save_model(folder / "twice", {"en.0.w": torch.ones(1), "de.0.w": torch.ones(1)})
    save_model(folder / "flat", {"w": torch.ones(1)})

    with pytest.raises(InputError, match=expected):
        read_job(folder, f"method: passthrough\n{text}").check()


@pytest.mark.parametrize(
    ("name", "layer"),
    [("model.layers.11.mlp.w", 11), ("h.0.mlp.experts.7.w", 0), ("fc1.weight", None), ("3.w", 3)],
)
def test_the_first_number_in_a_name_is_its_layer(name: str, layer: int | None) -> None:
    assert layer_of(name) == layer


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lm_head.weight", True),
        ("model.norm.weight", True),
        ("transformer.ln_f.bias", True),
        ("embed_out.weight", True),
        ("output.weight", True),
        ("model.embed_tokens.weight", False),
        ("word_embeddings_layernorm.weight", False),
        ("transformer.wpe.weight", False),
    ],
)
def test_heads_and_last_norms_come_after_the_layers(name: str, *, expected: bool) -> None:
    assert is_after_layers(name) == expected


def test_layers_are_counted_to_the_last_number() -> None:
    assert num_layers(["h.0.w", "h.4.w", "head"]) == 5
    assert num_layers(["head"]) == 0
