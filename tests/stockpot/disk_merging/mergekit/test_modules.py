"""Multimodal models: one stack of layers is sliced, or all parts are merged alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from merge_files import language_model, merge, read_job, save_model
from safetensors.torch import load_file

from stockpot.errors import InputError

VISUAL = 2  # layers of the vision tower


def _config() -> dict[str, Any]:
    return {
        "vision_config": {"num_hidden_layers": VISUAL},
        "text_config": {"num_hidden_layers": 4},
    }


@pytest.fixture(scope="module")
def multimodal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multimodal")
    for number, name in enumerate(("a", "b")):
        state = {f"language_model.{n}": t for n, t in language_model(number, num_layers=4).items()}
        tower = language_model(10 + number, num_layers=VISUAL)
        layers = {n: t for n, t in tower.items() if "layers" in n}
        state |= {f"vision_tower.{n.removeprefix('model.')}": t for n, t in layers.items()}
        state["vision_tower.post_layernorm.weight"] = tower["model.norm.weight"]
        state["multi_modal_projector.linear.weight"] = tower["lm_head.weight"]
        save_model(folder / name, state, **_config())
    return folder


def _multimodal(vision: str = "{model: a}") -> str:
    return f"""
merge_method: passthrough
modules:
  text_decoder:
    slices:
      - sources: [{{model: a, layer_range: [0, 3]}}]
      - sources: [{{model: b, layer_range: [1, 4]}}]
  vision_tower:
    models: [{vision}]
  multi_modal_projector:
    models: [{{model: a}}]
"""


def test_one_stack_of_a_multimodal_model_is_sliced(multimodal: Path, tmp_path: Path) -> None:
    a, b = (load_file(multimodal / name / "model.safetensors") for name in "ab")

    merged = merge(multimodal, _multimodal(), str(tmp_path / "merged"))

    text = "language_model.model.layers.{}.mlp.up_proj.weight"
    origins = [a[text.format(n)] for n in (0, 1, 2)] + [b[text.format(n)] for n in (1, 2, 3)]
    for number, origin in enumerate(origins):
        assert torch.equal(merged[text.format(number)], origin)
    assert text.format(6) not in merged
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config == _config() | {"text_config": {"num_hidden_layers": 6}}
    others = [n for n in a if "layers" not in n or n.startswith("vision")]
    for name in others:
        is_last = name in ("language_model.model.norm.weight", "language_model.lm_head.weight")
        assert torch.equal(merged[name], (b if is_last else a)[name]), name


def test_modules_that_are_merged_alike_are_one_merge(multimodal: Path, tmp_path: Path) -> None:
    models = "models: [{model: a, parameters: {weight: [0, 1]}}, {model: b}]"
    a, b = (load_file(multimodal / name / "model.safetensors") for name in "ab")

    merged = merge(
        multimodal,
        f"merge_method: linear\nparameters: {{weight: 1}}\nmodules:\n"
        f"  text_decoder: {{{models}}}\n  vision_tower: {{{models}}}",
        str(tmp_path / "merged"),
    )

    for stack, last in (("language_model.model", 3), ("vision_tower", VISUAL - 1)):
        name = f"{stack}.layers.{last}.mlp.up_proj.weight"
        torch.testing.assert_close(merged[name], (a[name] + b[name]) / 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_multimodal("{model: b}"), "modules.vision_tower: models and parameters must be those of"),
        (_multimodal().replace("models: [{model: a}]", "slices: []"), "each must have models or"),
        (
            "method: passthrough\nlayers: [{path: a, range: [0, 2]}]",
            "got ['language_model.model.layers.', 'vision_tower.layers.']; name one by stack",
        ),
        (
            "method: passthrough\nstack: audio\nlayers: [{path: a, range: [0, 2]}]",
            "got 'audio', which names none",
        ),
        ("method: linear\nmodels: [a]\nstack: audio", "got 'audio' without layers"),
    ],
)
def test_modules_that_cannot_be_merged_are_named(multimodal: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_job(multimodal, text).check()

    assert said in str(caught.value)
